"""maskstream evaluate: J&F of an artifact or checkpoint on annotated sequences, by the rules of a benchmark."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from maskstream.commands.evaluate_report import build_report, print_scores
from maskstream.commands.networks import add_engine_arguments, describe, networks_from
from maskstream.contact_sheet import SequenceSheet
from maskstream.dataset import find_sequences, find_single_object_sequences
from maskstream.evaluation import AnsweredStep, SequenceResult, evaluate_sequence
from maskstream.networks import Networks
from maskstream.pictures import write_id_map, write_jpeg
from maskstream.plot_look import check_plot
from maskstream.progress import progress
from maskstream.quality_plot import plot_quality
from maskstream.report import write_report
from maskstream.result_streams import add_result_arguments
from maskstream.steps import StepSequence
from maskstream.submission import Submission
from maskstream.youtube_vos import ListedVideo, find_split, open_split

DESCRIPTION = """\
Measure how well objects are followed, as the DAVIS benchmark does: J (region overlap), F (contour accuracy) and their
mean J&F, 0..100, first and last frame left out. Each object is given by its first mask. "coarse" is what the affinity
alone propagates, before the decoder; "copy" the first mask left where it was.

DATASET is in the layout of DAVIS 2017, of DAVIS 2016 (one object a sequence) or of YouTube-VOS (meta.json). The masks
of YouTube-VOS valid and test are not public: --out has the zip for its server.

  maskstream evaluate DAVIS --json scores.json
  maskstream evaluate DAVIS --sequences camel,libby --out out/     palette PNGs as the DAVIS toolkit reads them, sheets
  maskstream evaluate DAVIS --plot quality.png                     J&F by sequence, J along the frames
  maskstream evaluate DAVIS --protocol davis2016                   J and F with recall and decay
  maskstream evaluate YouTubeVOS/valid --out out/                  out/submission.zip
  maskstream evaluate DAVIS --checkpoint runs/a/last.pt            before any export, by torch"""

PROTOCOLS = ("auto", "davis2017", "davis2016", "youtube-vos")
OnStep = Callable[[AnsweredStep], None]
Times = dict[str, list[float | None]]  # J of each frame, by sequence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("dataset", metavar="DATASET", type=Path, help="folder with JPEGImages/ and Annotations/")
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="auto",
        help="whose layout and rules (default: youtube-vos where there is a meta.json, else davis2017)",
    )
    parser.add_argument("--checkpoint", metavar="FILE", type=Path, help="measure a training checkpoint (needs torch)")
    add_engine_arguments(parser)
    parser.add_argument(
        "--sequences", metavar="A,B", default="", help="only these (default: ImageSets or meta.json, else all)"
    )
    parser.add_argument(
        "--baseline", choices=["copy"], help="add the floor to the table and the JSON: the first mask, copied"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="write the masks there, as OUT/SEQ/00000.png (youtube-vos: OUT/Annotations/SEQ/00000.png and "
        "OUT/submission.zip), and OUT/contact_sheets/SEQ.jpg",
    )
    parser.add_argument(
        "--plot", metavar="FILE", type=Path, help="draw J&F of each sequence, and J along its frames, .png or .svg"
    )
    add_result_arguments(parser, "the scores")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print, write. Ctrl-C reports the sequences that were finished."""
    if arguments.plot:
        check_plot(arguments.plot)
    names = list(dict.fromkeys(name.strip() for name in arguments.sequences.split(",") if name.strip()))
    protocol: str = arguments.protocol
    if protocol == "auto":
        protocol = "youtube-vos" if find_split(arguments.dataset) else "davis2017"
    if protocol == "youtube-vos":
        return _run_youtube_vos(arguments, names)
    find = find_single_object_sequences if protocol == "davis2016" else find_sequences
    sequences = find(arguments.dataset, names)

    def write(name: str, answered: AnsweredStep) -> None:
        write_id_map(arguments.out / name / f"{answered.step.name}.png", answered.id_map)

    networks = networks_from(arguments)
    times: Times = {}
    results = _evaluate_all(networks, sequences, arguments.out, write, times)
    _report(arguments, protocol, networks, results, {}, times)
    return _status(results, sequences)


def _run_youtube_vos(arguments: argparse.Namespace, names: Sequence[str]) -> int:
    split = open_split(arguments.dataset)
    chosen = split.names(names)
    videos: list[ListedVideo] = []
    with progress("check", len(chosen), "videos") as advance:
        for name in chosen:
            videos.append(split.video(name))
            advance()
    print(f"frames of {videos[0].frames[0].parent.parent}")
    submission = Submission(arguments.out or Path())

    def write(name: str, answered: AnsweredStep) -> None:
        if answered.step.expected:
            submission.add(name, answered.step.name, answered.id_map)

    networks = networks_from(arguments)
    times: Times = {}
    results = _evaluate_all(networks, videos, arguments.out, write, times)
    scored = sum(video.has_truth for video in videos if video.name in results)
    facts: dict[str, Any] = {"videos": len(results), "scored_videos": scored, "notes": _notes(scored, len(results))}
    if arguments.out:
        facts |= _submit(submission, results, len(videos), len(split.listed))
    _report(arguments, "youtube-vos", networks, results, facts, times)
    return _status(results, videos)


def _notes(scored: int, videos: int) -> list[str]:
    """What a reader of the figures has to know."""
    if not scored:
        return ["no scores: there are masks for the objects' first frames only; the YouTube-VOS server has the others"]
    missing = [f"{videos - scored} of {videos} videos have no masks to score against"] if scored < videos else []
    return [*missing, "overall means: which categories are seen and which unseen is not in meta.json"]


def _submit(submission: Submission, results: dict[str, SequenceResult], wanted: int, listed: int) -> dict[str, Any]:
    """Write the zip, unless the run was stopped, and say what is in it."""
    facts: dict[str, Any] = {"masks_written": submission.num_masks, "submission": None}
    if len(results) < wanted:
        print("no submission.zip: the run was stopped")
        return facts
    facts["submission"] = str(submission.finish())
    others = f"; the server takes all {listed}" if wanted < listed else ""
    print(f"{facts['submission']}: {submission.num_masks} masks of {wanted} videos{others}")
    return facts


def _evaluate_all(
    networks: Networks,
    sequences: Sequence[StepSequence],
    out: Path | None,
    write: Callable[[str, AnsweredStep], None],
    times: Times,
) -> dict[str, SequenceResult]:
    """Results by name, of those that were finished before Ctrl-C."""
    print(f"{len(sequences)} sequences, {describe(networks)}")
    results: dict[str, SequenceResult] = {}
    try:
        for sequence in sequences:
            times[sequence.name] = []
            results[sequence.name] = _evaluate(networks, sequence, out, write, times[sequence.name])
    except KeyboardInterrupt:
        print(f"stopped: {len(results)} of {len(sequences)} sequences were finished")
    return results


def _evaluate(
    networks: Networks,
    sequence: StepSequence,
    out: Path | None,
    write: Callable[[str, AnsweredStep], None],
    time: list[float | None],
) -> SequenceResult:
    """The result; J of each frame goes into `time`."""
    sheet = SequenceSheet(sequence.num_expected)
    with progress(sequence.name, sequence.num_frames) as advance:

        def on_step(answered: AnsweredStep) -> None:
            time.append(answered.j)
            if out is not None:
                write(sequence.name, answered)
                if answered.step.expected:
                    sheet.add(answered.step, answered.id_map, answered.j)
            advance()

        result = evaluate_sequence(networks, sequence, on_step=on_step)
    if out is not None:
        write_jpeg(out / "contact_sheets" / f"{sequence.name}.jpg", sheet.picture())
    return result


def _report(
    arguments: argparse.Namespace,
    protocol: str,
    networks: Networks,
    results: dict[str, SequenceResult],
    facts: dict[str, Any],
    times: Times,
) -> None:
    """Print the tables and write the JSON; nothing when no sequence was finished."""
    if not results:
        return
    with_copy = arguments.baseline == "copy"
    print_scores(results, protocol, with_copy)
    for note in facts.get("notes", ()):
        print(note)
    report = {
        **build_report(results, with_copy),
        "protocol": protocol,
        **facts,
        "engine": networks.engine,
        "precision": networks.precision,
    }
    print(f"{report['fps']} frames/s in the tracker")
    scored = {name: report["sequences"][name] for name, result in results.items() if result.decoded.objects}
    if arguments.plot and scored:
        plot_quality(arguments.plot, scored, {name: times[name] for name in scored})
    if arguments.json:
        write_report(arguments.json, report)


def _status(results: dict[str, SequenceResult], sequences: Sequence[StepSequence]) -> int:
    return 0 if len(results) == len(sequences) else 130
