"""Engines: what runs an artifact's networks, looked up by name and imported when chosen.

So a torch engine can serve where torch is installed, and yet no one who imports this package depends on torch. An
engine is a module with `open_networks(artifact, threads) -> Networks`; adding one is adding a line to `ENGINES`.

"auto" takes the first of `AUTO_ORDER` that is installed. ONNX Runtime leads: it is as fast as OpenVINO in fp32
(docs/export.md has the figures), and it is what the artifact was verified with. The chosen networks say in `engine`
what they are; an engine that fails to start is an error, never a reason to try the next one.
"""

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from maskstream.artifact import Artifact
from maskstream.errors import EngineUnavailable
from maskstream.networks import Networks


@dataclass(frozen=True)
class Engine:
    """Where an engine lives: its module here, the package it needs and what to install to have that."""

    module: str
    package: str
    install: str


ENGINES = {
    "onnxruntime": Engine("maskstream.engines.onnxruntime_networks", "onnxruntime", "maskstream[cpu]"),
    "openvino": Engine("maskstream.engines.openvino_networks", "openvino", "maskstream[cpu]"),
    "torch": Engine("maskstream.engines.torch_networks", "torch", "maskstream[train]"),
}
AUTO = "auto"
AUTO_ORDER = ("onnxruntime", "openvino", "torch")


def load_networks(artifact: Path, engine: str = AUTO, threads: int | None = None) -> Networks:
    """Networks of the artifact folder, run by `engine` on `threads` CPU threads (None: all that the process may use).

    Raises ArtifactError for the folder, EngineUnavailable for an engine that is unknown, not installed or unfit.
    """
    name = choose_engine() if engine == AUTO else engine
    known = ENGINES.get(name)
    if known is None:
        raise EngineUnavailable(f"no engine is called {name!r}; known engines: {AUTO}, {', '.join(ENGINES)}")
    if not _installed(known):
        raise EngineUnavailable(f"the engine {name!r} needs the package {known.package}; pip install '{known.install}'")
    verified = Artifact.load(artifact)
    module = importlib.import_module(known.module)
    return cast(Networks, module.open_networks(verified, threads))


def choose_engine() -> str:
    """The engine that "auto" means on this machine. Raises EngineUnavailable when none is installed."""
    for name in AUTO_ORDER:
        if _installed(ENGINES[name]):
            return name
    raise EngineUnavailable("no engine is installed; pip install 'maskstream[cpu]' brings ONNX Runtime")


def _installed(engine: Engine) -> bool:
    return importlib.util.find_spec(engine.package) is not None
