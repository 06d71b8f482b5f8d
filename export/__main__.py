"""maskstream-export: a checkpoint in, a verified artifact out. `python -m export` is the same."""

import argparse
import sys
from pathlib import Path

from export.build import PRECISIONS, build_artifact, count_steps, refuse_occupied
from export.verify import ParityReport
from maskstream.checkpoint import Checkpoint
from maskstream.errors import MaskstreamError
from maskstream.progress import progress
from maskstream.report import table

EXAMPLES = """examples:
  maskstream-export runs/live/checkpoint.pt --out my_artifact
  maskstream-export runs/live/checkpoint.pt --out my_artifact --precision fp16
  maskstream-export runs/live/checkpoint.pt --out my_artifacts --precision fp32,fp16    one folder for each

Then: maskstream-serve --artifact my_artifact
"""


def parser() -> argparse.ArgumentParser:
    """The command line; its words are part of the product."""
    made = argparse.ArgumentParser(
        prog="maskstream-export",
        description="Export a checkpoint to ONNX, compare outputs and masks with torch, write the artifact.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="what maskstream-train wrote")
    made.add_argument(
        "--out", type=Path, required=True, metavar="ARTIFACT", help="folder to write; an older artifact is replaced"
    )
    made.add_argument("--precision", default="fp32", metavar="LIST", help=f"of {', '.join(PRECISIONS)} (default: fp32)")
    made.add_argument("--targets", type=Path, metavar="FILE", help="engines to build from the graphs; not built yet")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 written, 1 the exported networks differ or cannot be had, 2 wrong command line."""
    made = parser()
    given = made.parse_args(arguments)
    precisions = list(dict.fromkeys(given.precision.split(",")))
    if given.targets is not None:
        made.error(
            "--targets: building engines from a list of targets is not built yet; leave it out for the ONNX artifact"
        )
    for precision in precisions:
        if precision not in PRECISIONS:
            made.error(f"--precision {precision}: not built; choose from {', '.join(PRECISIONS)}")
    outs = {name: given.out / name if len(precisions) > 1 else given.out for name in precisions}
    try:
        for precision, out in outs.items():
            _export(given.checkpoint, out, precision)
    except MaskstreamError as error:
        print(f"maskstream-export: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def _export(checkpoint_file: Path, out: Path, precision: str) -> None:
    refuse_occupied(out)
    checkpoint = Checkpoint.load(checkpoint_file)
    with progress(f"export {precision}", count_steps(checkpoint.config.spec()), "steps") as done:
        report = build_artifact(checkpoint_file, checkpoint, out, precision, done)
    print(parity_table(report))
    print(f"mask IoU with torch along a clip: mean {report.mask_iou_mean:.4f}, least {report.mask_iou_least:.4f}")
    size = sum(file.stat().st_size for file in out.iterdir())
    print(f"{out}: {checkpoint.config.name}, {precision}, {size / 1e6:.1f} MB")


def parity_table(report: ParityReport) -> str:
    """The worst case of each output."""
    rows = [
        (row.graph, row.output, row.case, f"{row.max_abs_error:.1e}", f"{row.relative_error:.1e}", f"{row.cosine:.7f}")
        for row in report.worst()
    ]
    return table(("graph", "output", "worst case", "max error", "relative", "cosine"), rows)


if __name__ == "__main__":
    sys.exit(main())
