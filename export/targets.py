"""targets.toml: which engines a batch makes ready, at which precisions, frame sizes and numbers of objects and streams.

    [[target]]
    name = "cpu"
    engine = ["onnxruntime", "openvino"]

    [[target]]
    name = "gpu-480p"
    engine = ["tensorrt"]
    precision = ["fp16"]
    size = ["480x854", "1080x1920"]     # height x width of the frames
    objects = [1, 4, 16]
    streams = [1, 8]

Every list is multiplied out: the second target is twelve builds. A file is read whole or refused; the error names the
file, the target and what was expected, because a slip found after hours of building is found too late.
"""

import itertools
import re
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.verify import PRECISIONS
from maskstream import masks
from maskstream.errors import MaskstreamError
from maskstream.networks import NetworkSpec

GRAPH_ENGINES = ("onnxruntime", "openvino", "torch")  # run the artifact's own files, at any size
BUILT_ENGINES = ("tensorrt", "tensorrt_rtx")  # are built from the graphs, for the sizes they are asked for
PORTABLE_ENGINES = ("tensorrt_rtx",)  # of these, built without the GPU that will run them
ENGINES = (*GRAPH_ENGINES, *BUILT_ENGINES)
# Distributions whose versions decide what comes out: of the graphs and their gate, and of each engine.
GRAPH_LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu")
LIBRARIES = {
    "onnxruntime": (),  # the gate's own
    "openvino": ("openvino",),
    "torch": (),
    "tensorrt": ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
    "tensorrt_rtx": ("tensorrt-rtx",),
}
MOST_OBJECTS, MOST_STREAMS = 255, 64  # what the graphs' axes allow

_KEYS = ("name", "engine", "precision", "size", "objects", "streams")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # it names folders
_SIZE = re.compile(r"(\d{2,5})x(\d{2,5})")
_SMALLEST_SIDE = 32  # pixels: two tokens


class TargetsError(MaskstreamError):
    """A list of targets that cannot be meant; nothing was built."""

    reason = "TARGETS_INVALID"


@dataclass(frozen=True)
class Build:
    """One thing to make ready and check. Without a `size` (height, width in pixels) it is checked at the usual ones."""

    target: str
    engine: str
    precision: str
    size: tuple[int, int] | None = None
    objects: int = 1
    streams: int = 1

    @property
    def name(self) -> str:
        """Stable and readable; the name of its folder, e.g. "gpu-480p-tensorrt-fp16-480x854-o4-b8"."""
        name = f"{self.target}-{self.engine}-{self.precision}"
        if self.size is None:
            return name
        return f"{name}-{self.size[0]}x{self.size[1]}-o{self.objects}-b{self.streams}"

    def grid(self, spec: NetworkSpec) -> tuple[int, int]:
        """Rows and columns of tokens that the tracker makes of a frame of this size. Needs a `size`."""
        assert self.size is not None, f"{self.name} is of no size"
        sides = masks.working_size(*self.size, spec.short_side, spec.stride, 4 * spec.short_side)
        return sides[0] // spec.stride, sides[1] // spec.stride

    def settings(self) -> dict[str, Any]:
        """All that decides the outcome, as JSON holds it."""
        return {**asdict(self), "size": None if self.size is None else list(self.size)}

    @classmethod
    def of_settings(cls, settings: dict[str, Any]) -> "Build":
        """Inverse of `settings`."""
        size = settings["size"]
        return cls(**{**settings, "size": None if size is None else (size[0], size[1])})


@dataclass(frozen=True)
class Target:
    """One table of the file."""

    name: str
    engine: tuple[str, ...]
    precision: tuple[str, ...] = ("fp32",)
    size: tuple[tuple[int, int], ...] = ()
    objects: tuple[int, ...] = (1,)
    streams: tuple[int, ...] = (1,)

    def builds(self) -> list[Build]:
        """Every combination, in the order of the file."""
        sizes: Sequence[tuple[int, int] | None] = self.size or (None,)
        combinations = itertools.product(self.engine, self.precision, sizes, self.objects, self.streams)
        return [Build(self.name, *combination) for combination in combinations]


def read_targets(file: Path) -> tuple[Target, ...]:
    """The targets of `file`. Raises TargetsError for anything that is not as the module's docstring has it."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TargetsError(f"{file}: no such file; docs/export.md shows what to write in it") from error
    except (OSError, ValueError) as error:
        raise TargetsError(f"{file}: not readable as TOML ({error})") from error
    tables = content.get("target")
    if set(content) - {"target"}:
        raise TargetsError(
            f"{file}: {_listed(set(content) - {'target'})} unknown; all there may be is [[target]] tables"
        )
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise TargetsError(f"{file}: no target in it; write at least one [[target]] table with a name and an engine")
    targets = tuple(_Table(file, place, table).target() for place, table in enumerate(tables, start=1))
    names = [target.name for target in targets]
    for name in names:
        if names.count(name) > 1:
            raise TargetsError(f"{file}, target {name!r}: two targets have this name; names must differ")
    return targets


def expand(targets: Sequence[Target]) -> tuple[Build, ...]:
    """All builds of all targets, in the order of the file; no two have the same name."""
    return tuple(build for target in targets for build in target.builds())


class _Table:
    """A [[target]] as it was written, and what to say when something in it is wrong."""

    def __init__(self, file: Path, place: int, table: dict[str, Any]) -> None:
        self._table = table
        name = table.get("name")
        self._where = f"{file}, target {name!r}" if isinstance(name, str) and name else f"{file}, target {place}"

    def target(self) -> Target:
        unknown = set(self._table) - set(_KEYS)
        if unknown:
            raise self._wrong(f"{_listed(unknown)} unknown; known are {', '.join(_KEYS)}")
        name = self._name()
        engines = self._names("engine", ENGINES)
        precisions = self._names("precision", PRECISIONS) if "precision" in self._table else ("fp32",)
        self._check_pairs(engines, precisions)
        return Target(
            name,
            engines,
            precisions,
            self._sizes(),
            self._counts("objects", MOST_OBJECTS),
            self._counts("streams", MOST_STREAMS),
        )

    def _wrong(self, what: str) -> TargetsError:
        return TargetsError(f"{self._where}: {what}")

    def _name(self) -> str:
        name = self._table.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise self._wrong("name must be given, of letters, digits, - and _ : it names folders")
        return name

    def _names(self, key: str, known: Sequence[str]) -> tuple[str, ...]:
        names = self._list(key, str, f'a list of names, as in {key} = ["{known[0]}"]')
        for name in names:
            if name not in known:
                raise self._wrong(f"no {key} is called {name!r}; choose from {', '.join(known)}")
        return names

    def _sizes(self) -> tuple[tuple[int, int], ...]:
        if "size" not in self._table:
            return ()
        expected = 'HEIGHTxWIDTH of the frames in pixels, as in size = ["480x854"]'
        sizes = []
        for text in self._list("size", str, f"a list of {expected}"):
            found = _SIZE.fullmatch(text)
            size = (int(found[1]), int(found[2])) if found else (0, 0)
            if min(size) < _SMALLEST_SIDE:
                raise self._wrong(f"size {text!r} must be {expected}, {_SMALLEST_SIDE} at least")
            sizes.append(size)
        return tuple(sizes)

    def _counts(self, key: str, most: int) -> tuple[int, ...]:
        if key not in self._table:
            return (1,)
        if "size" not in self._table:
            raise self._wrong(f'{key} goes with a size; add one, as in size = ["480x854"]')
        counts = self._list(key, int, f"a list of numbers, as in {key} = [1, 4]")
        for count in counts:
            if not 1 <= count <= most:
                raise self._wrong(f"{key} {count} must be between 1 and {most}")
        return counts

    def _list(self, key: str, kind: type, expected: str) -> tuple[Any, ...]:
        """The entries of a list that is not empty, of one kind, none twice."""
        if key not in self._table:
            raise self._wrong(f"{key} is missing: it is {expected}")
        entries = self._table[key]
        if not isinstance(entries, list) or not entries or not all(type(entry) is kind for entry in entries):
            raise self._wrong(f"{key} must be {expected}; found {entries!r}")
        for entry in entries:
            if entries.count(entry) > 1:
                raise self._wrong(f"{key} has {entry!r} twice")
        return tuple(entries)

    def _check_pairs(self, engines: Sequence[str], precisions: Sequence[str]) -> None:
        if "torch" in engines and tuple(precisions) != ("fp32",):
            raise self._wrong('torch computes in fp32 alone; give it a target of its own, with precision = ["fp32"]')
        built = [engine for engine in engines if engine in BUILT_ENGINES]
        if built and "int8" in precisions:
            raise self._wrong(f"{built[0]} takes fp32 or fp16; int8 graphs are made for CPUs, onnxruntime and openvino")
        if built and "size" not in self._table:
            raise self._wrong(f'{built[0]} is built for the sizes it will see; add them, as in size = ["480x854"]')


def _listed(keys: set[str]) -> str:
    names = ", ".join(repr(key) for key in sorted(keys))
    return f"{names} {'is' if len(keys) == 1 else 'are'}"
