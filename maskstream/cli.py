"""The command `maskstream`. Each of its commands lives in its own module under `commands`, imported when it is chosen.

What a user can mend (an error of maskstream.errors) is printed as one line, with exit status 2 and no traceback. Ctrl-C
ends with status 130, after what was done so far has been written.
"""

import argparse
import contextlib
import importlib
import sys
from collections.abc import Sequence

from maskstream.errors import MaskstreamError
from maskstream.result_streams import add_result_arguments, directed

USER_ERROR = 2
INTERRUPTED = 130
_SHAPE = argparse.RawDescriptionHelpFormatter

DESCRIPTION = """\
Follows objects through live video: one mask or box on one frame, then the masks of every frame after it.

  maskstream demo                                              see it work, in a minute or two
  maskstream track dog.mp4 --prompt 310,120,180,240 --out out  follow the object in a box
  maskstream track-many videos/ --prompts prompts/ --out out   the same for a folder of videos
  maskstream evaluate DAVIS                                    J&F on annotated sequences
  maskstream bench                                             speed on this machine
  maskstream bench serve                                       a server under load
  maskstream doctor                                            what this machine can do, what to install for more

Its sisters: maskstream-train, maskstream-export, maskstream-serve."""

_COMMANDS = {
    "demo": "the bundled clip through a server and back, with scores and times",
    "track": "follow objects through a file, folder, camera or network stream",
    "track-many": "follow objects through all videos of a folder, or an archive of thousands",
    "evaluate": "J&F on sequences with masks, as DAVIS defines it",
    "bench": "frames/s, latency and memory of the tracker on this machine",
    "bench serve": "latency, drops and memory of a server under load",
    "doctor": "what this machine can do, and what to install for more",
    "completion": "a script that lets bash, zsh or fish complete the words of all programs",
}
_SAY_THEMSELVES = ("track", "track-many", "doctor", "completion")  # see to --quiet and --json by themselves


def build_parser(only: str | None = None, *, nested: bool = False) -> argparse.ArgumentParser:
    """The parser of all commands; the chosen command's `run` is in `arguments.run`.

    With `only`, other commands than that one have no arguments, and their modules are not imported: "" for none at all.
    With `nested`, a command of two words lies within its first.
    """
    parser = argparse.ArgumentParser("maskstream", description=DESCRIPTION, formatter_class=_SHAPE)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    made: dict[str, argparse.ArgumentParser] = {}
    for name, summary in _COMMANDS.items():
        first, _, second = name.partition(" ")
        if nested and second:
            made[name] = made[first].add_subparsers().add_parser(second, help=summary)
        else:
            made[name] = commands.add_parser(name, help=summary, formatter_class=_SHAPE)
        if only in (None, name):
            _fill(made[name], name)
    return parser


def _fill(command: argparse.ArgumentParser, name: str) -> None:
    module = importlib.import_module(f"maskstream.commands.{name.replace(' ', '_').replace('-', '_')}")
    command.description = module.DESCRIPTION
    module.add_arguments(command)
    add_result_arguments(command)
    command.set_defaults(run=module.run, says_itself=name in _SAY_THEMSELVES)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    words = _joined(sys.argv[1:] if argv is None else argv)
    arguments = build_parser(words[0] if words else "").parse_args(words)
    try:
        with contextlib.nullcontext() if arguments.says_itself else directed(arguments):
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
