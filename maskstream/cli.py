"""The command `maskstream`: demo, track, evaluate, bench, bench serve. Each lives in its own module under `commands`.

What a user can mend (an error of maskstream.errors) is printed as one line, with exit status 2 and no traceback. Ctrl-C
ends with status 130, after what was done so far has been written.
"""

import argparse
import sys
from collections.abc import Sequence

from maskstream.commands import bench, bench_serve, demo, evaluate, track
from maskstream.errors import MaskstreamError

USER_ERROR = 2
INTERRUPTED = 130

DESCRIPTION = """\
Follows objects through live video: one mask or box on one frame, then the masks of every frame after it.

  maskstream demo                                              see it work, in a minute or two
  maskstream track dog.mp4 --prompt 310,120,180,240 --out out  follow the object in a box
  maskstream evaluate DAVIS                                    J&F on annotated sequences
  maskstream bench                                             speed on this machine
  maskstream bench serve                                       a server under load

Its sisters: maskstream-train, maskstream-export, maskstream-serve."""

_COMMANDS = {
    "demo": (demo, "the bundled clip through a server and back, with scores and times"),
    "track": (track, "follow objects through a file, folder, camera or network stream"),
    "evaluate": (evaluate, "J&F on sequences with masks, as DAVIS defines it"),
    "bench": (bench, "frames/s, latency and memory of the tracker on this machine"),
    "bench serve": (bench_serve, "latency, drops and memory of a server under load"),
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; the chosen command's `run` is in `arguments.run`."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("maskstream", description=DESCRIPTION, formatter_class=shape)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (module, summary) in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=module.DESCRIPTION, formatter_class=shape)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    arguments = build_parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
    try:
        status: int = arguments.run(arguments)
    except MaskstreamError as error:
        print(f"maskstream: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("maskstream: stopped", file=sys.stderr)
        return INTERRUPTED
    return status


def _joined(words: Sequence[str]) -> list[str]:
    """A command of two words as one, so that it is a command like the others."""
    return [" ".join(words[:2]), *words[2:]] if " ".join(words[:2]) in _COMMANDS else list(words)


if __name__ == "__main__":
    sys.exit(main())
