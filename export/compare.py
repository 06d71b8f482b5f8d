"""maskstream-export compare: what each engine and precision costs and gives, as a table, report.json and report.md.

It makes the artifacts it needs (or takes those given), so that one command answers "which shall I serve on this
machine".
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import export
import maskstream
from export.batch_report import write_json
from export.comparison import Bench, Comparison, as_markdown, print_rows
from export.targets import GRAPH_ENGINES
from export.verify import PRECISIONS
from maskstream.artifact import Artifact, sha256_of
from maskstream.checkpoint import Checkpoint
from maskstream.dataset import AnnotatedSequence, find_sequences
from maskstream.errors import ArtifactError, MaskstreamError
from maskstream.progress import progress
from maskstream.provenance import provenance

INTERRUPTED = 130

EXAMPLES = """examples:
  maskstream-export compare runs/live/checkpoint.pt --out table --calibration my_videos/
  maskstream-export compare runs/live/checkpoint.pt --out table --precision fp32,int8 --dataset DAVIS
  maskstream-export compare fp32_artifact int8_artifact --out table --engine openvino --dataset DAVIS --sequences camel

Times are medians over a drawn clip with one object; relative errors and mask IoU are against torch; J&F as maskstream
evaluate has it. Run it on a machine that does nothing else. What was measured is kept in OUT: the same command goes
on, and measures again what has changed.

exit status: 0 all rows, 1 a row has no figures, 2 wrong command line, 130 stopped by Ctrl-C
"""


class CompareError(MaskstreamError):
    """Artifacts that cannot be compared with each other."""

    reason = "COMPARE_FAILED"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="maskstream-export compare",
        description="Size, speed, errors, masks and J&F of engines and precisions, on this machine.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "sources", type=Path, nargs="+", metavar="CHECKPOINT|ARTIFACT", help="a checkpoint, or artifacts made of one"
    )
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="reports, and what was measured so far")
    made.add_argument("--engine", default="onnxruntime,openvino", metavar="LIST", help="default: onnxruntime,openvino")
    made.add_argument(
        "--precision", default="fp32,int8", metavar="LIST", help="to make of a checkpoint (default: fp32,int8)"
    )
    made.add_argument("--calibration", type=Path, nargs="+", default=[], metavar="VIDEO", help="for int8, see --help")
    made.add_argument("--size", default="480x854", metavar="HxW", help="of the frames (default: 480x854)")
    made.add_argument("--frames", type=int, default=20, metavar="N", help="timed frames (default: 20)")
    made.add_argument("--dataset", type=Path, metavar="DIR", help="in the layout of DAVIS: adds J&F")
    made.add_argument("--sequences", default="", metavar="A,B", help="only these of the dataset")
    return made


def run(words: Sequence[str]) -> int:
    """Measure, print, write. Exit status: see the end of `--help`."""
    made = parser()
    given = made.parse_args(words)
    engines, precisions = _listed(given.engine), _listed(given.precision)
    height, _, width = given.size.partition("x")
    for what, known in ((engines, GRAPH_ENGINES), (precisions, PRECISIONS)):
        unknown = [name for name in what if name not in known]
        if unknown:
            made.error(f"{unknown[0]!r} is unknown; choose from {', '.join(known)}")
    if not (height.isdecimal() and width.isdecimal()) or given.frames < 1:
        made.error(f"--size {given.size} is not HEIGHTxWIDTH, or --frames less than 1")
    sequences = find_sequences(given.dataset, _listed(given.sequences)) if given.dataset else []
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        artifacts = _artifacts(given.sources, precisions, given.out, given.calibration)
        comparison = Comparison(artifacts, engines, Bench((int(height), int(width)), given.frames), given.out)
    except KeyboardInterrupt:
        print("stopped; what is finished is kept", file=sys.stderr)
        return INTERRUPTED
    return _measure(comparison, sequences, given.out)


def _measure(comparison: Comparison, sequences: Sequence[AnnotatedSequence], out: Path) -> int:
    about = provenance()
    hardware = about["hardware"]
    key = {"code": _code(), "versions": about["versions"], "cpu": hardware["cpu"], "cores": hardware["cores"]}
    status = 0
    with progress("compare", len(comparison.rows) * (1 + len(sequences)), "parts") as done:
        for place in range(len(comparison.rows)):
            try:
                comparison.measure(place, sequences, key, done)
            except KeyboardInterrupt:
                status = INTERRUPTED
                break
            except MaskstreamError as error:
                comparison.rows[place].error = str(error)
                status = 1
            _write(comparison, sequences, out, about)
    print_rows(comparison.rows, [sequence.name for sequence in sequences])
    if status == INTERRUPTED:
        print("stopped; go on with the same command", file=sys.stderr)
    return status


def _write(comparison: Comparison, sequences: Sequence[AnnotatedSequence], out: Path, about: dict[str, Any]) -> None:
    names = [sequence.name for sequence in sequences]
    rows = [{**asdict(row), "scores": row.scores(names) if names else None} for row in comparison.rows]
    write_json(out / "report.json", {"rows": rows, "sequences": names, **about})
    hardware = about["hardware"]
    told = f"{hardware['cpu']}, {hardware['cores']} cores"
    judged = f"; J&F on {', '.join(names)}" if names else ""
    page = f"# Engines and precisions\n\n{told}{judged}.\n\n{as_markdown(comparison.rows, names)}"
    (out / "report.md").write_text(page, encoding="utf-8")


def _artifacts(
    sources: Sequence[Path], precisions: Sequence[str], out: Path, calibration: Sequence[Path]
) -> dict[str, Path]:
    """Artifact folders by precision: those given, or made of the checkpoint. Raises CompareError, ArtifactError."""
    if len(sources) > 1 or sources[0].is_dir():
        return _given(sources)
    wanted = list(dict.fromkeys(("fp32", *precisions)))  # torch runs from the fp32 artifact
    return {precision: _made(sources[0], precision, out, calibration) for precision in wanted}


def _given(folders: Sequence[Path]) -> dict[str, Path]:
    found = {artifact.precision: artifact for artifact in map(Artifact.load, folders)}
    if "fp32" not in found or len(found) < len(folders):
        raise CompareError("give one artifact of each precision, an fp32 one among them: torch runs from that")
    if len({sha256_of(artifact.checkpoint) for artifact in found.values()}) > 1:
        raise CompareError("these artifacts are not of one checkpoint; errors between them would mean nothing")
    return {precision: artifact.folder for precision, artifact in found.items()}


def _made(checkpoint_file: Path, precision: str, out: Path, calibration: Sequence[Path]) -> Path:
    """The artifact of a precision in `out`; one that is there is kept if it would come out the same."""
    from export.build import build_artifact, count_steps

    folder, record = out / "artifacts" / precision, out / "artifacts" / f"{precision}.json"
    checkpoint = Checkpoint.load(checkpoint_file)
    key = {"code": _code(), "checkpoint": sha256_of(checkpoint_file), "calibration": [str(p) for p in calibration]}
    if _is_same(record, key):
        try:
            return Artifact.load(folder).folder
        except ArtifactError as error:
            print(f"{error}; made again", file=sys.stderr)
    with progress(f"export {precision}", count_steps(checkpoint.config.spec(), precision), "steps") as done:
        build_artifact(checkpoint_file, checkpoint, folder, precision, done, calibration)
    write_json(record, key)
    return folder


def _is_same(record: Path, key: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(record.read_text(encoding="utf-8")) == key)
    except (OSError, ValueError):
        return False


def _code() -> str:
    """A hash of the sources that graphs, engines and figures come from: a version number does not tell enough."""
    sources = [file for package in (maskstream, export) for file in Path(package.__path__[0]).rglob("*.py")]
    return hashlib.sha256("".join(sha256_of(file) for file in sorted(sources)).encode()).hexdigest()[:12]


def _listed(text: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
