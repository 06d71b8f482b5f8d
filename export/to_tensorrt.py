"""ONNX graph -> TensorRT engine and its record. One path for `tensorrt` 10 and 11 and for `tensorrt_rtx`.

The module is a parameter (`trt`). Networks are strongly typed: what a graph computes in is in the graph, so an fp16
engine comes from an fp16 artifact, and there is no flag for it. TF32 is switched off unless asked for, since fp32 is
what the gate compared. Shapes are read from the graph's own axis names and filled in from a profile.

TensorRT-RTX builds without a GPU, for a list of compute capabilities; TensorRT builds for the GPU at hand.
"""

import logging
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.graphs import Port
from export.targets import Build
from maskstream.artifact import Artifact, sha256_of
from maskstream.engine_sidecar import (
    ENGINE_SUFFIX,
    EngineMismatch,
    EngineOptions,
    EngineProfile,
    EngineSidecar,
    Machine,
    Mismatch,
    gpu_mismatches,
    intact_engine,
    origin_mismatches,
    refuse_mismatches,
    replace_file,
    sidecar_file,
)
from maskstream.engines.cuda_runtime import open_cuda
from maskstream.engines.tensorrt_library import (
    Messages,
    builds_for_many,
    import_tensorrt,
    library_log,
    running_machine,
)
from maskstream.errors import ArtifactError, EngineUnavailable, MaskstreamError

log = logging.getLogger(__name__)

TIMING_CACHES = Path(".cache/tensorrt")  # of a batch

_ACTIVATION = re.compile(r"Total Activation Memory: (\d+) bytes")
_LEVELS = {"same_compute_capability": "SAME_COMPUTE_CAPABILITY", "ampere_plus": "AMPERE_PLUS"}
_LEAST_DEFAULT = (8, 0)  # TensorRT-RTX leaves older GPUs out unless they are asked for
_SHAPES = ("least", "usual", "most")


class EngineBuildError(MaskstreamError):
    """A graph that TensorRT cannot parse or build, or an option that this TensorRT lacks; nothing was written."""

    reason = "ENGINE_BUILD_FAILED"


@dataclass(frozen=True)
class BuildSettings:
    """`options` change the engine. The other two only how it is found: with how much scratch memory (bytes; None is
    all there is), and from which timings (a folder; None times everything anew). TensorRT-RTX times nothing.
    """

    options: EngineOptions = field(default_factory=EngineOptions)
    workspace_bytes: int | None = None
    timing_caches: Path | None = None


@dataclass(frozen=True)
class BuiltEngine:
    """An engine file that is ready. `seconds` is what building took, 0 for one that was there already."""

    file: Path
    sidecar: EngineSidecar
    seconds: float


@dataclass(frozen=True)
class _Build:
    """The library's objects of one build; their log must outlive them."""

    trt: Any
    logger: Any
    messages: Messages
    builder: Any
    network: Any


def build_engine(graph_file: Path, out: Path, profile: EngineProfile, settings: BuildSettings, trt: Any) -> BuiltEngine:
    """Build `graph_file` for `profile` with the module `trt`; write the engine `out` and its record beside it.

    Raises EngineBuildError naming the file and, where the parser refuses it, each node and the reason; CudaError when
    the GPU is not usable. Files that were there stay as they are then.
    """
    started = time.perf_counter()
    machine = building_machine(trt)
    _refuse_what_is_lacking(settings.options, machine, trt)
    build = _parsed(graph_file, trt)
    config = build.builder.create_builder_config()
    _set_options(config, settings, trt)
    runs_on = _set_compute_capabilities(config, settings.options, machine, trt)
    _add_profile(build, config, profile, graph_file)
    cache_file = _timing_cache_file(settings.timing_caches, machine, trt)
    if cache_file is not None:
        _use_timings(config, cache_file)
    plan = build.builder.build_serialized_network(build.network, config)
    if plan is None:
        raise EngineBuildError(f"{graph_file}: {_name(trt)} cannot build it: {build.messages.told()}")
    replace_file(out, memoryview(plan))
    sidecar = EngineSidecar(
        graph=graph_file.stem,
        onnx_sha256=sha256_of(graph_file),
        engine_sha256=sha256_of(out),
        built_on=machine,
        runs_on=runs_on,
        profile=profile,
        options=settings.options,
        activation_bytes=_activation_bytes(build.messages),
    )
    sidecar.write(out)
    if cache_file is not None:
        timing_cache = config.get_timing_cache()
        replace_file(cache_file, memoryview(timing_cache.serialize()))
    return BuiltEngine(out, sidecar, time.perf_counter() - started)


def ensure_engine(
    graph_file: Path, out: Path, profile: EngineProfile, settings: BuildSettings, trt: Any, rebuild: bool = False
) -> BuiltEngine:
    """The engine `out`: the one that is there if it is what `build_engine` would make, else a new one.

    One that is there and differs (in graph, library, GPU, profile, options, or damaged) is built again if `rebuild`
    is given, and refused otherwise: EngineMismatch names what differs, ArtifactError the damaged file.
    """
    if not out.exists() and not sidecar_file(out).exists():
        return build_engine(graph_file, out, profile, settings, trt)
    try:
        return BuiltEngine(out, _engine_as_wanted(graph_file, out, profile, settings, trt), 0.0)
    except (ArtifactError, EngineMismatch) as error:
        if not rebuild:
            raise
        log.info("built again: %s", error)
    return build_engine(graph_file, out, profile, settings, trt)


def build_engines(onnx_files: dict[str, Path], out: Path, build: Build) -> None:
    """Fill the folder `out` with the engines of one build of a batch; `onnx_files` are the graphs of an artifact.

    Fastest at the largest number of objects and streams it is built for: that is where time is short. Raises what
    `build_engine` raises, and EngineUnavailable when the library is not installed.
    """
    trt = import_tensorrt(build.engine)
    spec = Artifact.load(next(iter(onnx_files.values())).parent).spec
    profile = EngineProfile.for_load(build.name, build.grid(spec), build.objects, build.streams)
    settings = BuildSettings(timing_caches=TIMING_CACHES)
    for graph, onnx_file in onnx_files.items():
        build_engine(onnx_file, out / f"{graph}{ENGINE_SUFFIX}", profile, settings, trt)


def building_machine(trt: Any) -> Machine:
    """The machine that builds: with its GPU if it has one. TensorRT-RTX does not need one; TensorRT does.

    Raises EngineUnavailable when TensorRT finds no GPU, or the bindings of CUDA are missing.
    """
    try:
        return running_machine(trt, open_cuda())
    except EngineUnavailable:
        if not builds_for_many(trt):
            raise
    return running_machine(trt, None)


def _engine_as_wanted(
    graph_file: Path, out: Path, profile: EngineProfile, settings: BuildSettings, trt: Any
) -> EngineSidecar:
    sidecar, machine = intact_engine(out), building_machine(trt)
    found = origin_mismatches(sidecar, machine, sha256_of(graph_file))
    if machine.gpu is not None:
        found += gpu_mismatches(sidecar, machine)
    for name, there, wanted in (
        ("the profile", sidecar.profile, profile),
        ("the set of options", sidecar.options, settings.options),
    ):
        if there != wanted:
            found.append(Mismatch(name, str(there), str(wanted)))
    refuse_mismatches(out, found)
    return sidecar


def _name(trt: Any) -> str:
    return f"{trt.__name__} {trt.__version__}"


def _refuse_what_is_lacking(options: EngineOptions, machine: Machine, trt: Any) -> None:
    """Raises EngineBuildError for an option that this library has no means for, naming what is lacking."""
    lacking = ""
    level = options.hardware_compatibility
    if level not in ("none", *_LEVELS):
        raise EngineBuildError(f"hardware compatibility {level!r}: choose from none, {', '.join(_LEVELS)}")
    if builds_for_many(trt):
        if level != "none":
            lacking = "hardware compatibility levels; its engines run on several GPUs anyway, see compute_capabilities"
        if options.version_compatible:
            lacking = "lean runtime, which version-compatible engines carry along; build one engine for each version"
    else:
        if options.compute_capabilities:
            lacking = "ComputeCapability: it builds for the GPU at hand; see hardware_compatibility"
        if level != "none" and not hasattr(trt.HardwareCompatibilityLevel, _LEVELS[level]):
            lacking = f"HardwareCompatibilityLevel.{_LEVELS[level]}; a later TensorRT has"
    if lacking:
        raise EngineBuildError(f"{machine.flavour} {machine.version} has no {lacking}")


def _parsed(graph_file: Path, trt: Any) -> _Build:
    messages = Messages()
    logger = library_log(trt, messages)
    builder = trt.Builder(logger)
    flags = 0
    if hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):  # else networks are, without a flag
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not graph_file.is_file():
        raise EngineBuildError(f"{graph_file}: no such file; expected an ONNX graph of an artifact")
    if not parser.parse_from_file(str(graph_file)):
        found = [_parser_error(parser.get_error(index)) for index in range(parser.num_errors)]
        told = "; ".join(found) or messages.told()
        raise EngineBuildError(f"{graph_file}: {_name(trt)} cannot parse it: {told}")
    return _Build(trt, logger, messages, builder, network)


def _parser_error(parser_error: Any) -> str:
    """Which node, and why. What is wrong with the whole file has no node."""
    what = " ".join(parser_error.desc().split())
    if not parser_error.node_operator():
        return what
    return f"node {parser_error.node_name()} ({parser_error.node_operator()}): {what}"


def _set_options(config: Any, settings: BuildSettings, trt: Any) -> None:
    options = settings.options
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatibility != "none":
        level = getattr(trt.HardwareCompatibilityLevel, _LEVELS[options.hardware_compatibility])
        config.hardware_compatibility_level = level
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if settings.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_bytes)


def _set_compute_capabilities(config: Any, options: EngineOptions, machine: Machine, trt: Any) -> tuple[str, ...]:
    """The compute capabilities that the engine will run on, as in "8.9"."""
    if not builds_for_many(trt):
        assert machine.compute_capability is not None, "TensorRT builds on a GPU"
        return (machine.compute_capability,)
    known = _known_compute_capabilities(trt)
    wanted = options.compute_capabilities
    for one in wanted:
        if one not in known:
            raise EngineBuildError(f"{_name(trt)} builds for no compute capability {one}, only {', '.join(known)}")
    if not wanted:
        return tuple(one for one in known if tuple(map(int, one.split("."))) >= _LEAST_DEFAULT)
    config.num_compute_capabilities = len(wanted)
    for index, one in enumerate(wanted):
        config.set_compute_capability(known[one], index)
    return wanted


def _known_compute_capabilities(trt: Any) -> dict[str, Any]:
    """ "SM89" -> "8.9", and the member itself."""
    members = trt.ComputeCapability.__members__
    return {f"{name[2:-1]}.{name[-1]}": member for name, member in members.items() if name.startswith("SM")}


def _add_profile(build: _Build, config: Any, profile: EngineProfile, graph_file: Path) -> None:
    """The least, usual and most of every input with an axis that has a name."""
    optimization = build.builder.create_optimization_profile()
    for index in range(build.network.num_inputs):
        tensor = build.network.get_input(index)
        port = _port(tensor, profile, graph_file)
        optimization.set_shape(tensor.name, *(port.size(profile.lengths(which)) for which in _SHAPES))
    if config.add_optimization_profile(optimization) < 0:
        raise EngineBuildError(f"{graph_file}: the profile {profile} is refused: {build.messages.told()}")


def _port(tensor: Any, profile: EngineProfile, graph_file: Path) -> Port:
    """An input as the parser has it: numbers where the graph has them, else the axis as the graph calls it."""
    axes = profile.lengths("usual")
    shape: list[int | str] = []
    for index, side in enumerate(tensor.shape):
        name = tensor.get_dimension_name(index) or ""
        unknown = [factor for factor in name.split("*") if not factor.isdigit() and factor not in axes]
        if side < 0 and unknown:
            raise EngineBuildError(
                f"{graph_file}: axis {index} of its input {tensor.name} is called {name!r}; expected {', '.join(axes)} "
                "or a multiple of one, as maskstream-export writes them"
            )
        shape.append(int(side) if side >= 0 else name)
    return Port(tensor.name, tuple(shape))


def _timing_cache_file(folder: Path | None, machine: Machine, trt: Any) -> Path | None:
    """Timings are true of one GPU, driver and library. TensorRT-RTX has none: it compiles when it is loaded."""
    if folder is None or builds_for_many(trt):
        return None
    folder.mkdir(parents=True, exist_ok=True)
    place = f"{machine.gpu}-driver-{machine.driver or 'unknown'}-{machine.flavour}-{machine.version}"
    return folder / f"{re.sub('[^A-Za-z0-9.]+', '-', place)}.timings"


def _use_timings(config: Any, file: Path) -> None:
    """Timings of earlier builds, none at first, and none when the library does not take them for its own."""
    timing_cache = config.create_timing_cache(file.read_bytes() if file.is_file() else b"")
    if timing_cache is None or not config.set_timing_cache(timing_cache, False):
        log.warning("%s: timings of another GPU or library; timed anew", file)
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _activation_bytes(messages: Messages) -> int | None:
    """What the engine will need on the GPU beside its weights; the builder says it in a message and nowhere else."""
    found = [_ACTIVATION.search(note) for note in messages.notes]
    return next((int(one[1]) for one in reversed(found) if one), None)
