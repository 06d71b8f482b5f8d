"""One artifact that holds its graphs in two precisions: what `--precision fp32+int8` writes.

Each is built and passes its gate as an artifact of its own; then the graphs of the others move in beside those of the
first, which is what runs where nothing else is asked for.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from export.build import build_artifact, folder_beside, put_in_place, refuse_occupied
from export.verify import ParityReport
from maskstream.artifact import Artifact, seal
from maskstream.checkpoint import Checkpoint

_OF_A_VARIANT = ("graphs", "parity", "quantisation", "made_with")  # what of its manifest is its own


def build_combined(
    checkpoint_file: Path,
    checkpoint: Checkpoint,
    out: Path,
    precisions: Sequence[str],
    done: Callable[[], None],
    calibration: Sequence[Path] = (),
) -> list[ParityReport]:
    """Artifact `out` with the graphs of all `precisions`, the first one first; the reports are in the same order.

    Raises what `build_artifact` raises; nothing is written then.
    """
    refuse_occupied(out)
    with folder_beside(out) as folder:
        reports = []
        parts = [folder / precision for precision in precisions]
        for precision, part in zip(precisions, parts, strict=True):
            reports.append(build_artifact(checkpoint_file, checkpoint, part, precision, done, calibration))
        for part in parts[1:]:
            add_variant(parts[0], part)
        put_in_place(parts[0], out)
    return reports


def add_variant(first: Path, other: Path) -> None:
    """Copy the graphs of the artifact `other` into the artifact `first`, under names that tell the precision."""
    artifact, variant = Artifact.load(first), Artifact.load(other)
    record = {key: variant.manifest[key] for key in _OF_A_VARIANT if key in variant.manifest}
    graphs = {}
    for name, file in variant.graphs.items():
        called = f"{name}.{variant.precision}{file.suffix}"
        shutil.copyfile(file, first / called)
        graphs[name] = {**record["graphs"][name], "file": called}
    variants = {**artifact.manifest.get("variants", {}), variant.precision: {**record, "graphs": graphs}}
    seal(first, artifact.spec, {**artifact.manifest, "variants": variants})
