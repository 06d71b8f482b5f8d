"""Checkpoint -> verified artifact. Everything happens in a folder beside the target, renamed when it has passed.

So a target is complete or absent: a failed check, a full disk or Ctrl-C leave what was there before.
"""

import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from export.graphs import GraphDefinition, Port, graph_definitions
from export.int8.build import count_int8_steps, quantise_files
from export.to_onnx import OPSET, export_graph
from export.verify import ParityError, ParityReport, cases, figures, verify
from maskstream.artifact import CHECKPOINT, GRAPHS, MANIFEST, Artifact, seal
from maskstream.checkpoint import Checkpoint
from maskstream.engines.onnxruntime_networks import OnnxRuntimeNetworks
from maskstream.engines.torch_networks import TorchNetworks
from maskstream.errors import ArtifactError
from maskstream.model.segmenter import Segmenter
from maskstream.networks import NetworkSpec


def count_steps(spec: NetworkSpec, precision: str = "fp32") -> int:
    """How often `build_artifact` calls `done`: each graph, each frame of calibration, each parity case, the clip."""
    return len(GRAPHS) + (count_int8_steps() if precision == "int8" else 0) + len(cases(spec)) + 1


def build_artifact(
    checkpoint_file: Path,
    checkpoint: Checkpoint,
    out: Path,
    precision: str,
    done: Callable[[], None],
    calibration: Sequence[Path] = (),
) -> ParityReport:
    """Export `checkpoint`, which was read from `checkpoint_file`, verify it, and write the artifact folder `out`.

    int8 is calibrated on the videos in `calibration`, or on drawn ones (and says so on stderr).
    An artifact that is there already is replaced. Raises ArtifactError when `out` holds anything else, ParityError when
    the gate does not pass; nothing is written then.
    """
    refuse_occupied(out)
    reference = checkpoint.segmenter()
    spec = reference.config.spec()
    definitions = graph_definitions(_in_precision(checkpoint.segmenter(), precision))
    with folder_beside(out) as folder:
        for definition in definitions:
            export_graph(definition, folder / _file_name(definition))
            done()
        shutil.copyfile(checkpoint_file, folder / CHECKPOINT)
        manifest = _manifest(checkpoint, definitions, precision)
        if precision == "int8":
            files = {definition.name: folder / _file_name(definition) for definition in definitions}
            manifest["quantisation"] = quantise_files(files, spec, calibration, done, _say)
        seal(folder, spec, manifest)
        exported = OnnxRuntimeNetworks(Artifact.load(folder))
        torch_networks = TorchNetworks(reference)
        try:
            report = verify(torch_networks, exported, precision, done)
        except ParityError as error:
            raise ParityError(f"{error}; nothing was written") from error
        seal(folder, spec, {**manifest, "parity": {**report.summary(), "torch": figures(torch_networks)}})
        put_in_place(folder, out)
    return report


def add_engine(
    source: Artifact,
    out: Path,
    settings: dict[str, Any],
    make: Callable[[dict[str, Path], Path], None],
    check: Callable[[Path], None],
) -> None:
    """Write the artifact `out`: `source` and the files that `make(onnx files, folder)` builds from it.

    `settings` say what was built, for the manifest. `check` is given the complete artifact before it is put in its
    place; what it writes there, such as figures into a record, is sealed in. Raises ArtifactError when nothing usable
    was built, and what `make` and `check` raise; nothing is written then.
    """
    refuse_occupied(out)
    with folder_beside(out) as folder:
        make(dict(source.graphs), folder)
        made = list(folder.iterdir())
        if not made or not all(file.is_file() for file in made):
            raise ArtifactError(f"{settings}: no engine was built, or not as plain files")
        for file in (*source.graphs.values(), source.checkpoint):
            shutil.copyfile(file, folder / file.name)
        manifest = {**source.manifest, "engine": settings}
        seal(folder, source.spec, manifest)
        check(folder)
        seal(folder, source.spec, manifest)
        put_in_place(folder, out)


def refuse_occupied(out: Path) -> None:
    """Raises ArtifactError when `out` exists and is no artifact: it is not ours to delete."""
    if out.exists() and not (out / MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ArtifactError(f"{out}: exists and is no artifact; choose another --out or remove it first")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _in_precision(segmenter: Segmenter, precision: str) -> Segmenter:
    return segmenter.half() if precision == "fp16" else segmenter


def _file_name(definition: GraphDefinition) -> str:
    return f"{definition.name}.onnx"


def _manifest(checkpoint: Checkpoint, definitions: tuple[GraphDefinition, ...], precision: str) -> dict[str, Any]:
    graphs = {
        definition.name: {
            "file": _file_name(definition),
            "inputs": [_port(port) for port in definition.inputs],
            "outputs": [_port(port) for port in definition.outputs],
        }
        for definition in definitions
    }
    provenance = json.loads(json.dumps(checkpoint.provenance, default=str))  # dates and paths become text
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "made_with": {name: version(name) for name in ("maskstream", "torch", "onnx", "onnxscript", "onnxruntime")},
        "model": checkpoint.config.name,
        "precision": precision,
        "opset": OPSET,
        "graphs": graphs,
        "checkpoint": {"file": CHECKPOINT, "provenance": provenance},
    }


def _port(port: Port) -> dict[str, Any]:
    return {"name": port.name, "dtype": port.dtype, "shape": list(port.shape)}


@contextlib.contextmanager
def folder_beside(out: Path) -> Iterator[Path]:
    """An empty folder on the same file system as `out`, gone afterwards unless it was renamed."""
    parent = out.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=parent) as scratch:
        folder = Path(scratch) / "artifact"
        folder.mkdir()
        yield folder


def put_in_place(folder: Path, out: Path) -> None:
    """Rename, with the artifact that `out` was set aside in the scratch folder, where it is deleted."""
    if out.exists():
        out.rename(folder.parent / "replaced")
    folder.rename(out)
