"""Engines: what runs an artifact's networks, looked up by name and imported when chosen.

So a torch engine can serve where torch is installed, and yet no one who imports this package depends on torch. An
engine is a module with `open_networks(artifact, threads) -> Networks`; adding one is adding a line to `ENGINES`.

"auto" takes the first of `AUTO_CANDIDATES` that is installed: ONNX Runtime, which the export gate checked. "fastest"
times all of them and takes the fastest that gives the right masks (maskstream.engines.choice); the process keeps the
memory that the losers took, so it is asked for and not the default. Torch, slower and larger, runs only where there is
no other. The chosen networks say in `engine` what they are. An engine asked for by name is an error when it fails to
start, never a reason to try another.
"""

import importlib
import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from maskstream.artifact import Artifact
from maskstream.engines.choice import choose_fastest
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
    "tensorrt": Engine("maskstream.engines.tensorrt_networks", "tensorrt", "maskstream[tensorrt]"),
    "tensorrt_rtx": Engine("maskstream.engines.tensorrt_rtx_networks", "tensorrt_rtx", "tensorrt-rtx cuda-bindings"),
}
AUTO = "auto"
FASTEST = "fastest"
AUTO_CANDIDATES = ("onnxruntime", "openvino")  # the first is what the export gate checked
AUTO_FALLBACK = "torch"

log = logging.getLogger(__name__)


def load_networks(artifact: Path, engine: str = AUTO, threads: int | None = None) -> Networks:
    """Networks of the artifact folder, run by `engine` on `threads` CPU threads (None: all that the process may use).

    Raises ArtifactError for the folder, EngineUnavailable for an engine that is unknown, not installed or unfit.
    """
    if engine == FASTEST:
        choice = choose_fastest(auto_candidates(), lambda name: _open(artifact, name, threads))
        log.info(choice.reason)
        return choice.networks
    return _open(artifact, auto_candidates()[0] if engine == AUTO else engine, threads)


def auto_candidates() -> tuple[str, ...]:
    """The engines that "auto" and "fastest" choose from here. Raises EngineUnavailable when none is installed."""
    found = tuple(name for name in AUTO_CANDIDATES if _installed(ENGINES[name]))
    if not found and _installed(ENGINES[AUTO_FALLBACK]):
        found = (AUTO_FALLBACK,)
    if not found:
        raise EngineUnavailable("no engine is installed; pip install 'maskstream[cpu]' brings ONNX Runtime")
    return found


def _open(artifact: Path, name: str, threads: int | None) -> Networks:
    known = ENGINES.get(name)
    if known is None:
        raise EngineUnavailable(f"no engine is called {name!r}; known engines: {AUTO}, {FASTEST}, {', '.join(ENGINES)}")
    if not _installed(known):
        raise EngineUnavailable(f"the engine {name!r} needs the package {known.package}; pip install '{known.install}'")
    verified = Artifact.load(artifact)
    module = importlib.import_module(known.module)
    return cast(Networks, module.open_networks(verified, threads))


def _installed(engine: Engine) -> bool:
    return importlib.util.find_spec(engine.package) is not None
