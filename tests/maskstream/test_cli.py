"""The command line as a whole: help that teaches, one-line errors, exit statuses."""

import pytest

from maskstream import cli
from maskstream.commands import demo, server_process, track
from maskstream.commands.server_process import ServerFailed
from maskstream.errors import ArtifactError


@pytest.mark.parametrize("command", ["demo", "track", "evaluate", "bench"])
def test_help_shows_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main([command, "--help"])
    printed = capsys.readouterr().out
    assert f"  maskstream {command} " in printed
    assert "--json FILE" in printed
    assert "--engine NAME" in printed


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    printed = capsys.readouterr().out
    assert all(f"maskstream {command}" in printed for command in ("demo", "track", "evaluate", "bench"))


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main([])
    assert "COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "status", "message"),
    [
        (ArtifactError("x/manifest.json: not there"), 2, "maskstream: x/manifest.json: not there"),
        (KeyboardInterrupt(), 130, "maskstream: stopped"),
    ],
)
def test_errors_become_one_line_and_a_status(
    raised: BaseException,
    status: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(arguments: object) -> int:
        raise raised

    monkeypatch.setattr(track, "run", fail)
    assert cli.main(["track", "clip.mp4", "--prompt", "1,1,5,5", "--out", "out"]) == status
    assert capsys.readouterr().err.splitlines() == [message]


def test_demo_with_a_server_that_does_not_start_shows_its_log(tmp_path, monkeypatch, capsys) -> None:
    program = "import sys; print('the artifact is broken'); sys.exit(3)"
    command = [cli.sys.executable, "-c", program]
    monkeypatch.setattr(server_process.own_program, "command", lambda module, *arguments: command)
    assert cli.main(["demo", "--frames", "1", "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr().err
    assert "the server ended with status 3" in printed
    assert "the artifact is broken" in printed
    assert "Traceback" not in printed


def test_server_that_never_gets_ready_is_stopped(tmp_path, monkeypatch) -> None:
    command = [cli.sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(server_process.own_program, "command", lambda module, *arguments: command)
    monkeypatch.setattr(server_process, "START_SECONDS", 0.3)
    with pytest.raises(ServerFailed, match="not ready after"), demo.running_server(tmp_path, None, "auto"):
        pytest.fail("it was never ready")
