"""Engines: what runs an artifact's networks, looked up by name and imported when chosen.

So a torch engine can serve where torch is installed, and yet no one who imports this package depends on torch. An
engine is a module with a function `open_networks(artifact, threads) -> Networks`; adding one is adding a line to
`ENGINES`.

"auto" tries those of `AUTO_CANDIDATES` that can run here and takes the fastest that gives the right masks
(maskstream.engines.choice); what it took is kept, so that only the first start takes that time. Torch on a CPU, slower
and larger, runs only where there is no other. What is chosen, and why, is told. An engine asked for by name is an error
when it fails to start, never a reason to try another.

An artifact that holds its graphs in a second precision is run in that by "openvino:int8"; "auto" tries both.
"""

import importlib
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from maskstream.artifact import Artifact
from maskstream.engines import choice_cache
from maskstream.engines.choice import Choice, choose
from maskstream.engines.cuda_runtime import driver_version
from maskstream.engines.trial_process import run_trial
from maskstream.errors import EngineUnavailable
from maskstream.networks import Networks

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Engine:
    """Where an engine lives: its module here, the package it needs, what to install to have that, what opens it."""

    module: str
    package: str
    install: str
    opener: str = "open_networks"
    gpu: bool = False  # runs on an NVIDIA GPU and nowhere else


ENGINES = {
    "onnxruntime": Engine("maskstream.engines.onnxruntime_networks", "onnxruntime", "maskstream[cpu]"),
    "openvino": Engine("maskstream.engines.openvino_networks", "openvino", "maskstream[cpu]"),
    "torch": Engine("maskstream.engines.torch_networks", "torch", "maskstream[train]"),
    **{
        name: Engine("maskstream.engines.onnxruntime_networks", "onnxruntime", "maskstream[gpu]", opener, gpu=True)
        for name, opener in (("onnxruntime_cuda", "open_cuda"), ("onnxruntime_tensorrt", "open_tensorrt"))
    },
    **{
        f"torch_cuda{kind}": Engine(
            "maskstream.engines.torch_cuda_networks", "torch", "maskstream[train]", opener, gpu=True
        )
        for kind, opener in (
            *(("", "open_networks"), ("_bf16", "open_bf16"), ("_fp32", "open_fp32")),
            *(("_compiled", "open_compiled"), ("_eager", "open_eager")),
        )
    },
    "tensorrt": Engine("maskstream.engines.tensorrt_networks", "tensorrt", "maskstream[tensorrt]", gpu=True),
    "tensorrt_rtx": Engine("maskstream.engines.tensorrt_rtx_networks", "tensorrt_rtx", "maskstream[rtx]", gpu=True),
}
AUTO = "auto"
# The first is what the export gate checked. An engine that was built for some shapes is not among them: it would fail
# with the first object too many.
AUTO_CANDIDATES = ("onnxruntime", "openvino", "onnxruntime_cuda", "torch_cuda")
AUTO_FALLBACK = "torch"
OF_VARIANTS = ("onnxruntime", "openvino")  # run an artifact's second precision too; for a CPU, as int8 is

log = logging.getLogger(__name__)


def load_networks(artifact: Path, engine: str = AUTO, threads: int | None = None, tell: Tell = log.info) -> Networks:
    """Networks of the artifact folder, run by `engine` on `threads` CPU threads (None: all that the process may use).

    "auto" tells what it chose and why, in a line of text; without `tell` it goes to the log. Its first choice for an
    artifact takes some seconds. Raises ArtifactError for the folder, EngineUnavailable for an engine that is unknown,
    not installed or unfit.
    """
    if engine != AUTO:
        refuse_missing(engine)
    verified = Artifact.load(artifact)
    name, _, precision = (choose_engine(verified, threads, tell).engine if engine == AUTO else engine).partition(":")
    known, verified = ENGINES[name], verified.in_precision(precision or verified.precision)
    return cast(Networks, getattr(importlib.import_module(known.module), known.opener)(verified, threads))


def choose_engine(artifact: Artifact, threads: int | None = None, tell: Tell = log.info) -> Choice:
    """What "auto" takes for this artifact here: what it took before under the same circumstances, else by trying.

    Raises EngineUnavailable when no engine is installed, or none that is gives the right masks.
    """
    installed = auto_candidates()
    others = [
        f"{name}:{precision}" for precision in artifact.precisions[1:] for name in installed if name in OF_VARIANTS
    ]
    candidates = (*installed, *others)
    if len(candidates) == 1:
        chosen = Choice(candidates[0])
    else:
        under = choice_cache.circumstances(artifact, candidates, threads)
        chosen = choice_cache.remembered(under) or _tried(artifact, candidates, threads, tell, under)
    tell(chosen.reason)
    return chosen


def auto_candidates() -> tuple[str, ...]:
    """The engines that "auto" chooses from here. Raises EngineUnavailable when none is installed."""
    able = [name for name in AUTO_CANDIDATES if not ENGINES[name].gpu or driver_version() is not None]
    found = tuple(name for name in able if _installed(ENGINES[name]))
    if not found and _installed(ENGINES[AUTO_FALLBACK]):
        found = (AUTO_FALLBACK,)
    if not found:
        raise EngineUnavailable("no engine is installed; pip install 'maskstream[cpu]' brings ONNX Runtime")
    return found


def _tried(
    artifact: Artifact,
    candidates: tuple[str, ...],
    threads: int | None,
    tell: Tell,
    under: choice_cache.Circumstances,
) -> Choice:
    tell(f"auto: tries {', '.join(candidates)} on this machine, which takes some seconds")
    chosen = choose(candidates, lambda name: run_trial(artifact.folder, name, threads))
    choice_cache.remember(under, chosen)
    return chosen


def refuse_missing(engine: str) -> None:
    """Raises EngineUnavailable for an engine that is not known, or not installed."""
    name = engine.partition(":")[0]
    known = ENGINES.get(name)
    if known is None:
        raise EngineUnavailable(f"no engine is called {name!r}; known engines: {AUTO}, {', '.join(ENGINES)}")
    if not _installed(known):
        raise EngineUnavailable(f"the engine {name!r} needs the package {known.package}; pip install '{known.install}'")


def _installed(engine: Engine) -> bool:
    return importlib.util.find_spec(engine.package) is not None
