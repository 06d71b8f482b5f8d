"""maskstream evaluate: J&F of an artifact or checkpoint on annotated sequences in the DAVIS layout."""

import argparse
from pathlib import Path
from typing import Any

from maskstream.commands.networks import add_engine_arguments, describe, networks_from
from maskstream.dataset import AnnotatedSequence, find_sequences
from maskstream.evaluation import SequenceResult, evaluate_sequence
from maskstream.masks import IdMap
from maskstream.networks import Networks
from maskstream.pictures import write_id_map
from maskstream.progress import progress
from maskstream.report import table, write_report
from maskstream.scores import SequenceScores, as_percent, mean_scores, sequence_as_percent

DESCRIPTION = """\
Measure how well objects are followed, as the DAVIS benchmark does: J (region overlap), F (contour accuracy) and their
mean J&F, 0..100, first and last frame left out. Each object is given by its first mask. "coarse" is what the affinity
alone propagates, before the decoder; "copy" the first mask left where it was.

  maskstream evaluate DAVIS --json scores.json
  maskstream evaluate DAVIS --sequences camel,libby --out masks/      palette PNGs, as the DAVIS toolkit reads them
  maskstream evaluate DAVIS --checkpoint runs/a/last.pt               before any export, by torch"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("dataset", metavar="DATASET", type=Path, help="folder with JPEGImages/ and Annotations/")
    parser.add_argument("--checkpoint", metavar="FILE", type=Path, help="measure a training checkpoint (needs torch)")
    add_engine_arguments(parser)
    parser.add_argument("--sequences", metavar="A,B", default="", help="only these (default: ImageSets, else all)")
    parser.add_argument(
        "--baseline", choices=["copy"], help="add the floor to the table and the JSON: the first mask, copied"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="write the masks there, as OUT/SEQ/00000.png")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the scores and where they come from")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print, write. Ctrl-C reports the sequences that were finished."""
    names = [name.strip() for name in arguments.sequences.split(",") if name.strip()]
    sequences = find_sequences(arguments.dataset, names)
    networks = networks_from(arguments)
    print(f"{len(sequences)} sequences, {describe(networks)}")
    results: dict[str, SequenceResult] = {}
    status = 0
    try:
        for sequence in sequences:
            results[sequence.name] = _evaluate(networks, sequence, arguments.out)
    except KeyboardInterrupt:
        print(f"stopped: {len(results)} of {len(sequences)} sequences were finished")
        status = 130
    if results:
        with_copy = arguments.baseline == "copy"
        print(_table(results, with_copy))
        report = {**_report(results, with_copy), "engine": networks.engine, "precision": networks.precision}
        print(f"{report['fps']} frames/s in the tracker")
        if arguments.json:
            write_report(arguments.json, report)
    return status


def _evaluate(networks: Networks, sequence: AnnotatedSequence, out: Path | None) -> SequenceResult:
    with progress(sequence.name, len(sequence.masks)) as advance:

        def on_frame(index: int, id_map: IdMap) -> None:
            if out is not None:
                write_id_map(out / sequence.name / f"{sequence.masks[index].stem}.png", id_map)
            advance()

        return evaluate_sequence(networks, sequence, on_frame)


def _report(results: dict[str, SequenceResult], with_copy: bool) -> dict[str, Any]:
    """The printed figures, in 0..100."""
    frames = sum(result.frames for result in results.values())
    seconds = sum(result.seconds for result in results.values())
    report: dict[str, Any] = {
        "mean": _mean([result.decoded for result in results.values()]),
        "coarse": _mean([result.coarse for result in results.values()]),
        "sequences": {name: _sequence(result) for name, result in results.items()},
        "fps": round(frames / seconds, 2) if seconds > 0 else 0.0,
        "frames": frames,
    }
    if with_copy:
        report["copy"] = _mean([result.copied for result in results.values()])
        for name, result in results.items():
            report["sequences"][name]["copy"] = as_percent(result.copied.mean)
    return report


def _mean(scores: list[SequenceScores]) -> dict[str, float | None]:
    """Mean over all objects of all sequences, as DAVIS averages."""
    return as_percent(mean_scores(one for sequence in scores for one in sequence.objects.values()))


def _sequence(result: SequenceResult) -> dict[str, Any]:
    fps = round(result.frames / result.seconds, 2) if result.seconds > 0 else 0.0
    coarse = sequence_as_percent(result.coarse)
    return {**sequence_as_percent(result.decoded), "coarse": coarse, "frames": result.frames, "fps": fps}


def _table(results: dict[str, SequenceResult], with_copy: bool) -> str:
    rows: list[list[object]] = []
    for name, result in results.items():
        decoded, coarse = sequence_as_percent(result.decoded), sequence_as_percent(result.coarse)
        rows.append([name, *_columns(decoded), *_columns(coarse)])
        if len(decoded["objects"]) > 1:
            for object_id, scores in decoded["objects"].items():
                rows.append([f"  object {object_id}", *_columns(scores), *_columns(coarse["objects"][object_id])])
    means = [_mean([getattr(result, kind) for result in results.values()]) for kind in ("decoded", "coarse", "copied")]
    rows.append(["mean over objects", *_columns(means[0]), *_columns(means[1])])
    if with_copy:
        rows.append(["copy of the first mask", *_columns(means[2]), *[None] * 3])
    return table(["", "J&F", "J", "F", "coarse J&F", "J", "F"], rows)


def _columns(scores: dict[str, Any]) -> list[float | None]:
    return [scores["jf"], scores["j"], scores["f"]]
