"""maskstream-export: a checkpoint in, verified artifacts out, and their check anywhere. `python -m export` is the same.

Three commands share the name. The first argument `verify` selects the check, `compare` the table of engines and
precisions; a checkpoint of such a name is `./verify`. The check must run on a machine without torch, so what needs
torch is imported by the commands that do.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from export.batch import Batch, Held, claims, unfinished
from export.batch_report import watched
from export.targets import expand, read_targets
from export.verify import PRECISIONS, ParityReport
from maskstream.checkpoint import Checkpoint
from maskstream.engines import AUTO, ENGINES
from maskstream.errors import MaskstreamError
from maskstream.progress import progress
from maskstream.report import write_report
from maskstream.result_streams import add_result_arguments, directed
from maskstream.tables import Table, print_table

FAILED, USER_ERROR, INTERRUPTED = 1, 2, 130
PLAIN, TRITON = "plain", "triton"  # layouts

EXAMPLES = """examples:
  maskstream-export runs/live/checkpoint.pt --out my_artifact
  maskstream-export runs/live/checkpoint.pt --out my_artifact --precision fp16
  maskstream-export runs/live/checkpoint.pt --out my_artifacts --precision fp32,fp16    one folder for each
  maskstream-export runs/live/checkpoint.pt --out my_artifact --precision fp32+int8     both in one; engines choose
  maskstream-export runs/live/checkpoint.pt --out my_artifact --precision int8 --calibration my_videos/
  maskstream-export runs/live/checkpoint.pt --out my_batch --targets targets.toml       engines, sizes, objects (below)
  maskstream-export runs/live/checkpoint.pt --out my_models --layout triton             a model repository for Triton
  maskstream-export verify my_artifact                       still whole, and equal to torch on this machine?
  maskstream-export verify my_batch --engine openvino
  maskstream-export compare runs/live/checkpoint.pt --out table      engine x precision: size, speed, errors, masks

Then: maskstream-serve --artifact my_artifact

targets.toml lists what to make ready; every list is multiplied out:
  [[target]]
  name = "cpu"
  engine = ["onnxruntime", "openvino"]      or torch
  precision = ["fp32"]

  [[target]]
  name = "gpu-480p"
  engine = ["tensorrt"]                     or tensorrt_rtx
  precision = ["fp16"]
  size = ["480x854"]                        height x width of the frames
  objects = [1, 4, 16]
  streams = [1, 8]

A batch goes on after a build that failed. Stop it when you like: the same command goes on where it was, keeps what is
finished and makes again what failed. my_batch/report.md and report.json sum it up.

exit status: 0 all written, but for what needs a GPU where there is none, 1 an artifact or a build failed,
2 wrong command line or targets, 130 stopped by Ctrl-C
"""

VERIFY_EXAMPLES = """examples:
  maskstream-export verify my_artifact
  maskstream-export verify my_artifact --engine openvino
  maskstream-export verify my_batch                          each finished build, by the engine it was made for

Checks the SHA-256 of every file, then what the engine computes: against torch, in all cases of the export's own gate,
where torch is installed; else against the figures of torch that the manifest holds. It says which of the two it did.

exit status: 0 all is as it should be, 1 it is not, or cannot be checked, 2 wrong command line, 130 stopped by Ctrl-C
"""


def parser() -> argparse.ArgumentParser:
    """The command line; its words are part of the product."""
    made = argparse.ArgumentParser(
        prog="maskstream-export",
        usage="%(prog)s CHECKPOINT --out ARTIFACT [--precision LIST | --targets FILE]\n"
        "       %(prog)s verify DIR [--engine NAME]\n"
        "       %(prog)s compare CHECKPOINT --out DIR [--dataset DAVIS]",
        description="Export a checkpoint to ONNX, compare outputs and masks with torch, write the artifact.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="what maskstream-train wrote")
    made.add_argument(
        "--out", type=Path, required=True, metavar="ARTIFACT", help="folder to write; an older artifact is replaced"
    )
    made.add_argument("--precision", metavar="LIST", help=f"of {', '.join(PRECISIONS)} (default: fp32)")
    made.add_argument(
        "--calibration",
        type=Path,
        nargs="+",
        default=[],
        metavar="VIDEO",
        help="for int8: videos, or folders of videos, of what will be seen (default: drawn clips, which are worse)",
    )
    made.add_argument(
        "--layout", choices=(PLAIN, TRITON), default=PLAIN, help="of --out: an artifact (default), or for Triton"
    )
    made.add_argument("--targets", type=Path, metavar="FILE", help="a batch: the builds to make in --out, see below")
    add_result_arguments(made, "what was written, and its parity,")
    return made


def verify_parser() -> argparse.ArgumentParser:
    """The command line of the check."""
    made = argparse.ArgumentParser(
        prog="maskstream-export verify",
        description="Check an artifact, or all of a batch, on this machine.",
        epilog=VERIFY_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("folder", type=Path, metavar="DIR", help="an artifact, or what --targets wrote")
    made.add_argument(
        "--engine",
        choices=(AUTO, *ENGINES),
        default=AUTO,
        help="what runs the graphs (default: auto, and in a batch what each build was made for)",
    )
    add_result_arguments(made, "what was checked")
    return made


def compare_parser() -> argparse.ArgumentParser:
    """The command line of the table of engines and precisions."""
    from export.compare import parser as own_parser

    made = own_parser()
    add_result_arguments(made, "the rows")
    return made


def nested_parser() -> argparse.ArgumentParser:
    """All three as one parser with commands, for those who want to know the words and not to run them."""
    made = argparse.ArgumentParser("maskstream-export", parents=[parser()], conflict_handler="resolve")
    made._actions[:] = [action for action in made._actions if action.option_strings]
    commands = made.add_subparsers()
    commands.add_parser("verify", help="check an artifact", parents=[verify_parser()], add_help=False)
    commands.add_parser("compare", help="engines and precisions", parents=[compare_parser()], add_help=False)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: see the end of `--help`."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if words[:1] == ["compare"]:
            return _compare(words[1:])
        return _check(words[1:]) if words[:1] == ["verify"] else _make(words)
    except (MaskstreamError, OSError) as error:
        print(f"maskstream-export: {error}", file=sys.stderr)
        return FAILED


def _make(words: list[str]) -> int:
    made = parser()
    given = made.parse_args(words)
    if given.targets is not None:
        if given.precision is not None:
            made.error("--precision: the targets name their own; leave it out beside --targets")
        if given.layout != PLAIN:
            made.error("--layout: a batch is of plain artifacts; leave it out beside --targets")
        return _batch(given)
    precisions = list(dict.fromkeys((given.precision or "fp32").split(",")))
    asked = [part for precision in precisions for part in precision.split("+")]
    for precision in asked:
        if precision not in PRECISIONS:
            made.error(f"--precision {precision}: not built; choose from {', '.join(PRECISIONS)}")
    if given.layout == TRITON and len(asked) > len(precisions):
        made.error("--layout triton: a repository has one precision; give a list with commas, or one")
    if given.calibration and "int8" not in asked:
        made.error("--calibration: only int8 is calibrated; add --precision int8")
    outs = {name: given.out / name if len(precisions) > 1 else given.out for name in precisions}
    with directed(given):
        return _export_all(given, outs)


def _export_all(given: argparse.Namespace, outs: dict[str, Path]) -> int:
    written: list[dict[str, Any]] = []
    try:
        for precision, out in outs.items():
            written.append(_export(given, out, precision))
    except KeyboardInterrupt:
        print("\nstopped; nothing was written", file=sys.stderr)
        return INTERRUPTED
    if given.json:
        write_report(given.json, {"artifacts": written})
    return 0


def _export(given: argparse.Namespace, out: Path, precision: str) -> dict[str, Any]:
    """Write one artifact, tell of it, and give what was told."""
    from export.build import build_artifact, count_steps, refuse_occupied
    from export.combine import build_combined
    from export.triton_layout import build_repository, refuse_occupied_repository

    triton = given.layout == TRITON
    (refuse_occupied_repository if triton else refuse_occupied)(out)
    checkpoint = Checkpoint.load(given.checkpoint)
    precisions = precision.split("+")
    steps = sum(count_steps(checkpoint.config.spec(), one) for one in precisions)
    with progress(f"export {precision}", steps, "steps") as done:

        def make(folder: Path) -> ParityReport:
            return build_artifact(given.checkpoint, checkpoint, folder, precision, done, given.calibration)

        if triton:
            reports = [build_repository(out, make)]
        else:
            reports = build_combined(given.checkpoint, checkpoint, out, precisions, done, given.calibration)
    for one, report in zip(precisions, reports, strict=True):
        print_table(parity_table(report))
        iou = f"mean {report.mask_iou_mean:.4f}, least {report.mask_iou_least:.4f}"
        print(f"{one}: mask IoU with torch along a clip: {iou}")
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    told = f"; {out / 'README.txt'} tells how a client calls it" if triton else ""
    print(f"{out}: {checkpoint.config.name}, {precision}, {size / 1e6:.1f} MB{told}")
    parity = {one: report.summary() for one, report in zip(precisions, reports, strict=True)}
    return {
        "folder": str(out),
        "model": checkpoint.config.name,
        "layout": given.layout,
        "bytes": size,
        "parity": parity,
    }


def _compare(words: list[str]) -> int:
    from export.compare import run

    given = compare_parser().parse_args(words)
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_result_arguments(flags)
    own_words = flags.parse_known_args(words)[1]
    with directed(given):
        status = run(own_words)
        _copy_report(given.out / "report.json", given.json)
    return status


def _copy_report(kept: Path, wanted: Path | None) -> None:
    """What a command writes into its folder anyway, where --json asks for it too."""
    if wanted and kept.is_file():
        wanted.parent.mkdir(parents=True, exist_ok=True)
        wanted.write_bytes(kept.read_bytes())


def _batch(given: argparse.Namespace) -> int:
    try:
        batch = Batch(given.checkpoint, expand(read_targets(given.targets)), given.out, calibration=given.calibration)
    except MaskstreamError as error:
        print(f"maskstream-export: {error}", file=sys.stderr)
        return USER_ERROR
    with directed(given):
        status = _run_batch(batch)
        _copy_report(given.out / "report.json", given.json)
    return status


def _run_batch(batch: Batch) -> int:
    try:
        with watched(batch.report) as view:
            batch.run(view)
    except KeyboardInterrupt:
        batch.report.print()
        print("stopped; what is finished is kept. Go on with the same command.", file=sys.stderr)
        return INTERRUPTED
    batch.report.print()
    return FAILED if batch.report.failed else 0


def _check(words: list[str]) -> int:
    given = verify_parser().parse_args(words)
    with directed(given):
        return _check_all(given)


def _check_all(given: argparse.Namespace) -> int:
    held: list[Held] = []
    try:
        for claim in claims(given.folder, given.engine):
            with progress(f"verify {claim.name}", None, "checks") as done:
                held.append(claim.check(done))
    except KeyboardInterrupt:
        print("\nstopped; what was checked so far:", file=sys.stderr)
        _print_held(held)
        return INTERRUPTED
    _print_held(held)
    left_out = unfinished(given.folder)
    if left_out:
        print(f"not finished, so not checked: {', '.join(left_out)}")
    if given.json:
        write_report(given.json, {"checked": [asdict(each) for each in held], "not_finished": list(left_out)})
    return FAILED if any(each.error for each in held) else 0


def parity_table(report: ParityReport) -> Table:
    """The worst case of each output."""
    rows = [
        (row.graph, row.output, row.case, f"{row.max_abs_error:.1e}", f"{row.relative_error:.1e}", f"{row.cosine:.7f}")
        for row in report.worst()
    ]
    return Table(("graph", "output", "worst case", "max error", "relative", "cosine"), rows, text_columns=3)


def _print_held(held: Sequence[Held]) -> None:
    """What was checked, how it came out, and what each was compared with."""
    rows = []
    for each in held:
        figures = each.parity or {}
        relative, cosine, iou = figures.get("relative_error"), figures.get("cosine"), figures.get("mask_iou")
        rows.append(
            (
                each.name,
                each.engine,
                "FAILED" if each.error else "holds",
                None if relative is None else f"{relative:.1e}",
                None if cosine is None else f"{cosine:.6f}",
                None if iou is None else f"{iou['least']:.4f}",
            )
        )
    print_table(
        Table(("artifact", "engine", "", "relative", "cosine", "IoU least"), rows, text_columns=3),
        styles={"holds": "green", "FAILED": "bold red"},
    )
    for each in held:
        if each.error:
            print(f"{each.name}: {each.error}")
    for against in dict.fromkeys(each.against for each in held):
        if against:
            print(f"files whole; compared with {against}")


if __name__ == "__main__":
    sys.exit(main())
