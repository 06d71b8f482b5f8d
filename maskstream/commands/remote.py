"""Following a video frame by frame by a server, through the client library, and the flags that say which server.

A token is read from a file or from the environment, never from the command line, which everybody on the machine can
see. The file is read again for each call, so that a token can be renewed while a command runs.
"""

import argparse
import itertools
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from maskstream.client import MaskStreamClient
from maskstream.client_security import Access, ClientTls
from maskstream.commands.follow import PromptMaker
from maskstream.commands.outputs import FollowedFrame
from maskstream.errors import AccessError
from maskstream.video import TimedFrame

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
    target: str, frames: Iterable[TimedFrame], prompts_for: PromptMaker, *, live: bool, access: Access = ANYONE
) -> Iterator[FollowedFrame]:
    """Answers of the server at HOST:PORT, in order. `live`: frames that come too fast are dropped and have no answer.

    Raises what the client raises, and the server's error on a frame it refused.
    """
    waiting = iter(frames)
    first = next(waiting, None)
    if first is None:
        return
    prompts = {0: prompts_for(first[0])}
    sent: dict[int, TimedFrame] = {}  # until they are answered: what is drawn on is the frame itself
    delivery = "latest" if live else "lossless"
    with _client(target, access) as client, client.open(delivery=delivery) as stream:
        for answer in stream.propagate(_remember(itertools.chain([first], waiting), sent), prompts):
            if answer.index is None:
                continue
            frame, pts_seconds = sent.pop(answer.index)
            if answer.error is not None:
                raise answer.error
            if answer.id_map is not None:
                yield FollowedFrame(answer.index, pts_seconds, frame, answer.id_map, answer.objects, answer.timings)


def _remember(frames: Iterable[TimedFrame], sent: dict[int, TimedFrame]) -> Iterator[TimedFrame]:
    """The frames as they are taken (on the client's thread), each kept under its index."""
    for index, timed in enumerate(frames):
        sent[index] = timed
        yield timed


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
