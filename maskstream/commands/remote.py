"""Following a video frame by frame by a server, through the client library, and the flags that say which server.

A token is read from a file or from the environment, never from the command line, which everybody on the machine can
see. The file is read again for each call, so that a token can be renewed while a command runs.
"""

import argparse
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from maskstream.client import MaskStreamClient
from maskstream.client_security import Access, ClientTls
from maskstream.commands.follow import Frames, PromptMaker, PromptPlan, plan_of, unfollowed
from maskstream.containers import TimedFrame
from maskstream.errors import AccessError
from maskstream.followed import FollowedFrame
from maskstream.prompt_kinds import AnyPrompt
from maskstream.tracker import Frame

TOKEN_VARIABLE = "MASKSTREAM_TOKEN"
ANYONE = Access()


def add_server_arguments(parser: argparse.ArgumentParser, default: str = "this process") -> None:
    """--server and what it takes to be let in there; `default` says what works without a server."""
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        help=f"the server; several with commas between them are tried in turn (default: {default})",
    )
    parser.add_argument("--tls", action="store_true", help="encrypt; implied by the other --tls flags")
    parser.add_argument("--tls-ca", metavar="FILE", type=Path, help="authorities that may vouch for the server, PEM")
    parser.add_argument("--tls-certificate", metavar="FILE", type=Path, help="our own certificate, PEM")
    parser.add_argument("--tls-key", metavar="FILE", type=Path, help="the key of our certificate, PEM")
    parser.add_argument("--tls-server-name", metavar="NAME", help="in the server's certificate, when not its HOST")
    parser.add_argument(
        "--token-file", metavar="FILE", type=Path, help=f"holds the token (else the variable {TOKEN_VARIABLE})"
    )


def access_of(arguments: argparse.Namespace) -> Access:
    """What the flags give us to be let in. Raises AccessError, naming the flag and what it expects."""
    files = {
        "--tls-ca": arguments.tls_ca,
        "--tls-certificate": arguments.tls_certificate,
        "--tls-key": arguments.tls_key,
    }
    for flag, file in files.items():
        if file is not None:
            _read(flag, file)
    if (arguments.tls_certificate is None) != (arguments.tls_key is None):
        raise AccessError("--tls-certificate and --tls-key belong together: give both, or neither")
    encrypted = arguments.tls or arguments.tls_server_name or any(files.values())
    ca, certificate, key = files.values()
    tls = ClientTls(ca, certificate, key, arguments.tls_server_name) if encrypted else None
    if arguments.token_file is None:
        return Access(tls, os.environ.get(TOKEN_VARIABLE) or None)
    token = partial(_token, arguments.token_file)
    token()
    return Access(tls, token)


def client_of(arguments: argparse.Namespace) -> MaskStreamClient:
    """A client of the server that the flags name. Raises AccessError."""
    return _client(arguments.server, access_of(arguments))


def follow_remotely(
    target: str,
    frames: Iterable[TimedFrame],
    prompts_for: PromptMaker | PromptPlan,
    *,
    live: bool,
    access: Access = ANYONE,
) -> Iterator[FollowedFrame]:
    """Answers of the server at HOST:PORT, in order. `live`: frames that come too fast are dropped and have no answer.

    Raises what the client raises, and the server's error on a frame it refused.
    """
    plan, sent = plan_of(prompts_for), _SentFrames(frames)
    with _client(target, access) as client, client.open(delivery="latest" if live else "lossless") as stream:
        for answer in stream.propagate(sent, _PromptsOfSent(plan, sent)):
            if answer.index is None:
                continue
            timed, arrived = sent.pop(answer.index)
            if answer.error is not None and answer.index >= min(plan, default=0):
                raise answer.error
            if answer.error is not None:
                yield unfollowed(answer.index, timed[1], timed[0])
            elif answer.id_map is None:
                sent.dropped += 1
            else:
                age = None if arrived is None else time.perf_counter() - arrived
                seen = (answer.id_map, answer.objects, answer.timings, age, sent.new_drops())
                yield FollowedFrame(answer.index, timed[1], timed[0], *seen)


class _SentFrames:
    """Frames on their way, kept until they are answered: what is drawn on is the frame itself."""

    def __init__(self, frames: Iterable[TimedFrame]) -> None:
        self._frames = Frames(frames)
        self._waiting: dict[int, tuple[TimedFrame, float | None]] = {}
        self.dropped = 0  # by client or server, since the last answer

    def __iter__(self) -> Iterator[TimedFrame]:
        """The frames as they are taken, on a thread of the client's."""
        for index, timed in enumerate(self._frames):
            self._waiting[index] = (timed, self._frames.arrived())
            yield timed

    def frame(self, index: int) -> Frame:
        """A frame that was taken and not answered yet."""
        return self._waiting[index][0][0]

    def pop(self, index: int) -> tuple[TimedFrame, float | None]:
        """A frame that was answered, and when it came from a live source."""
        return self._waiting.pop(index)

    def new_drops(self) -> int:
        """Frames dropped since this was last asked, at the source and on the way."""
        dropped, self.dropped = self.dropped, 0
        return dropped + self._frames.new_drops()


class _PromptsOfSent(Mapping[int, Sequence[AnyPrompt]]):
    """Prompts made when they are asked for: the client takes a frame before it looks for its prompts."""

    def __init__(self, plan: PromptPlan, sent: _SentFrames) -> None:
        self._plan, self._sent = plan, sent

    def __getitem__(self, index: int) -> Sequence[AnyPrompt]:
        return self._plan[index](self._sent.frame(index))

    def __iter__(self) -> Iterator[int]:
        return iter(self._plan)

    def __len__(self) -> int:
        return len(self._plan)


def _client(target: str, access: Access) -> MaskStreamClient:
    try:
        return MaskStreamClient(target, tls=access.tls, token=access.token, insecure_token=access.insecure_token)
    except ValueError as error:
        raise AccessError(str(error)) from error


def _token(file: Path) -> str:
    token = _read("--token-file", file).strip()
    if not token:
        raise AccessError(f"--token-file {file} is empty; expected one line with the token")
    return token


def _read(flag: str, file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AccessError(f"{flag} {file}: {error}; expected a text file that can be read") from error
