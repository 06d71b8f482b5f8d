"""The record beside a built engine: what it was built from, for what, where, and whether it may run here.

A TensorRT engine is bound to the library's version, the GPU and the graph it came from, and tells none of it before it
is loaded, by then often in the words of an internal error. So each engine file has a JSON file beside it, written by
`export` and compared here, without the library and without a GPU: plain values against plain values.

    segment.engine  segment.engine.json
"""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from maskstream.artifact import CHECKPOINT, sha256_of
from maskstream.errors import ArtifactError, EngineUnavailable, MaskstreamError

FORMAT = "maskstream-engine"
VERSION = 1
ENGINE_SUFFIX = ".engine"
FULL, RTX = "tensorrt", "tensorrt_rtx"  # flavours: the names of the Python packages

_AMPERE = (8, 0)
_BUILD_AGAIN = "build it again here: maskstream-export {checkpoint} --out NEW_FOLDER --targets targets.toml"


class InvalidProfile(MaskstreamError):
    """A range of shapes that cannot be; nothing was built."""

    reason = "PROFILE_INVALID"


class EngineMismatch(EngineUnavailable):
    """An engine was built for another library, GPU or graph than those that are here."""


@dataclass(frozen=True)
class AxisRange:
    """Lengths of one axis: the least and most that will be asked for, and the one to be fastest at."""

    least: int
    usual: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.usual <= self.most:
            raise InvalidProfile(
                f"an axis of {self.least} to {self.most}, usually {self.usual}: expected 1 <= least <= usual <= most"
            )


@dataclass(frozen=True)
class EngineProfile:
    """The shapes that an engine takes. `rows` and `columns` are of tokens, not pixels."""

    name: str
    streams: AxisRange
    objects: AxisRange
    rows: AxisRange
    columns: AxisRange

    @classmethod
    def for_load(cls, name: str, grid: tuple[int, int], objects: int, streams: int) -> "EngineProfile":
        """One frame size (`grid` in rows and columns of tokens), at most so many objects and streams."""
        rows, columns = (AxisRange(side, side, side) for side in grid)
        return cls(name, AxisRange(1, streams, streams), AxisRange(1, objects, objects), rows, columns)

    def lengths(self, which: str) -> dict[str, int]:
        """Length of each axis of the graphs, by its name there; `which` is "least", "usual" or "most"."""
        axes = {"B": self.streams, "O": self.objects, "h": self.rows, "w": self.columns}
        return {axis: getattr(lengths, which) for axis, lengths in axes.items()}


@dataclass(frozen=True)
class EngineOptions:
    """What changes an engine, beside its graph and its profile."""

    # "none", "same_compute_capability" (another model of the same generation) or "ampere_plus" (8.0 and later)
    hardware_compatibility: str = "none"
    version_compatible: bool = False  # runs on later versions of the library too
    tf32: bool = False  # 10 bits of mantissa in float32 products: too few for the read-out's squared distances
    optimization_level: int | None = None  # 0 to 5; None is the library's own
    compute_capabilities: tuple[str, ...] = ()  # that TensorRT-RTX builds for, as in "8.9"; () is its own choice


@dataclass(frozen=True)
class Machine:
    """What an engine is bound to. Without a GPU the last three are None."""

    flavour: str
    version: str
    gpu: str | None = None
    compute_capability: str | None = None
    driver: str | None = None


@dataclass(frozen=True)
class Mismatch:
    """One thing that is not as the engine needs it."""

    field: str
    found: str
    expected: str


@dataclass(frozen=True)
class EngineSidecar:
    """All that is known of one engine file. `runs_on` has the compute capabilities it was built for."""

    graph: str
    onnx_sha256: str
    engine_sha256: str
    built_on: Machine
    runs_on: tuple[str, ...]
    profile: EngineProfile
    options: EngineOptions = field(default_factory=EngineOptions)
    activation_bytes: int | None = None  # as the builder reported them, for the largest shapes
    golden_mask_iou: float | None = None  # the least of a clip's frames, with torch; None until it was measured

    def measured(self, mask_iou: float) -> "EngineSidecar":
        """The same, with its masks compared."""
        return replace(self, golden_mask_iou=mask_iou)

    def write(self, engine: Path) -> None:
        """Write it beside `engine`, atomically."""
        record = {"format": FORMAT, "version": VERSION, **asdict(self)}
        replace_file(sidecar_file(engine), (json.dumps(record, indent=1) + "\n").encode())

    @classmethod
    def read(cls, engine: Path) -> "EngineSidecar":
        """The record of `engine`. Raises ArtifactError naming the file at fault and what to do."""
        file = sidecar_file(engine)
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ArtifactError(
                f"{file}: missing, and {engine.name} is not loaded without it; {again(engine)}"
            ) from error
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{file}: not readable as JSON ({error}); {again(engine)}") from error
        if not isinstance(record, dict) or (record.get("format"), record.get("version")) != (FORMAT, VERSION):
            raise ArtifactError(f"{file}: not an engine's record of version {VERSION}; {again(engine)}")
        try:
            return _of_record(record)
        except (KeyError, TypeError, AttributeError, InvalidProfile) as error:
            raise ArtifactError(f"{file}: incomplete ({error} is missing or wrong); {again(engine)}") from error


def sidecar_file(engine: Path) -> Path:
    """The record of an engine file."""
    return engine.with_name(f"{engine.name}.json")


def again(engine: Path) -> str:
    """What to do about an engine that cannot be used."""
    return _BUILD_AGAIN.format(checkpoint=engine.parent / CHECKPOINT)


def check_engine(engine: Path, graph_file: Path, machine: Machine) -> EngineSidecar:
    """The record of `engine`, which was built from `graph_file` and may run on `machine`.

    Raises ArtifactError when a file is missing or damaged, EngineMismatch that names each field that differs, what was
    found, what was expected, and the command that builds the engine anew.
    """
    sidecar = intact_engine(engine)
    refuse_mismatches(
        engine,
        [*origin_mismatches(sidecar, machine, sha256_of(graph_file)), *gpu_mismatches(sidecar, machine)],
    )
    return sidecar


def intact_engine(engine: Path) -> EngineSidecar:
    """The record of `engine`, wherever it may run. Raises ArtifactError when a file is missing or damaged."""
    if not engine.is_file():
        raise ArtifactError(f"{engine}: no such engine; {again(engine)}")
    sidecar = EngineSidecar.read(engine)
    if sha256_of(engine) != sidecar.engine_sha256:
        raise ArtifactError(f"{engine}: not the file that {sidecar_file(engine).name} describes; {again(engine)}")
    return sidecar


def refuse_mismatches(engine: Path, found: list[Mismatch]) -> None:
    """Raises EngineMismatch if there are any."""
    if found:
        told = "; ".join(f"{one.field} is {one.found}, expected {one.expected}" for one in found)
        raise EngineMismatch(f"{engine}: does not fit: {told}; {again(engine)}")


def origin_mismatches(sidecar: EngineSidecar, machine: Machine, onnx_sha256: str) -> list[Mismatch]:
    """Whether it comes from the graph with this hash, and from a library whose engines the one of `machine` loads."""
    return [
        *_differing("the graph's SHA-256", onnx_sha256, sidecar.onnx_sha256),
        *_differing("the library", machine.flavour, sidecar.built_on.flavour),
        *_version_mismatch(sidecar, machine),
    ]


def gpu_mismatches(sidecar: EngineSidecar, machine: Machine) -> list[Mismatch]:
    """Whether it was built for the GPU and the driver of `machine`."""
    if machine.compute_capability is None:
        wanted = sidecar.built_on.gpu or f"one of compute capability {' or '.join(sidecar.runs_on)}"
        return [Mismatch("the GPU", "none", wanted)]
    return [*_model_mismatch(sidecar, machine), *_driver_mismatch(sidecar.built_on.driver, machine.driver)]


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Write a file whole, or leave what was there: a full disk or Ctrl-C cut nothing short."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def version_numbers(version: str) -> tuple[int, ...]:
    """Numbers of a version, to be compared: (10, 16, 1, 11)."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _differing(name: str, found: str, expected: str) -> Iterator[Mismatch]:
    if found != expected:
        yield Mismatch(name, found, expected)


def _version_mismatch(sidecar: EngineSidecar, machine: Machine) -> Iterator[Mismatch]:
    built = sidecar.built_on.version
    if not sidecar.options.version_compatible:
        yield from _differing("the library's version", machine.version, built)
    elif version_numbers(machine.version) < version_numbers(built):
        yield Mismatch("the library's version", machine.version, f"{built} or later")


def _model_mismatch(sidecar: EngineSidecar, machine: Machine) -> Iterator[Mismatch]:
    built, level = sidecar.built_on, sidecar.options.hardware_compatibility
    found = machine.compute_capability or "none"
    if level == "ampere_plus":
        if version_numbers(found) < _AMPERE:
            yield Mismatch("the compute capability", found, "8.0 or later")
    elif found not in sidecar.runs_on:
        yield Mismatch("the compute capability", found, " or ".join(sidecar.runs_on))
    elif built.flavour == FULL and level == "none":
        yield from _differing("the GPU", str(machine.gpu), str(built.gpu))


def _driver_mismatch(built: str | None, found: str | None) -> Iterator[Mismatch]:
    """A newer driver runs what an older one ran."""
    if built and found and version_numbers(found) < version_numbers(built):
        yield Mismatch("the driver", found, f"{built} or later")


def _of_record(record: dict[str, Any]) -> EngineSidecar:
    values = {one.name: record[one.name] for one in fields(EngineSidecar)}
    profile = dict(values["profile"])
    axes = {axis: AxisRange(**lengths) for axis, lengths in profile.items() if axis != "name"}
    options = dict(values["options"])
    options["compute_capabilities"] = tuple(options["compute_capabilities"])
    values["profile"] = EngineProfile(name=profile["name"], **axes)
    values["options"] = EngineOptions(**options)
    values["built_on"] = Machine(**values["built_on"])
    values["runs_on"] = tuple(values["runs_on"])
    return EngineSidecar(**values)
