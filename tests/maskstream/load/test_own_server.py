"""How the load tool's own server is set up."""

import tomllib
from pathlib import Path

import pytest

from maskstream.commands import own_program
from maskstream.commands.server_process import ServerFailed
from maskstream.load.own_server import ServerWishes, SettingsError, as_toml, own_server
from serve.config import load_config

WISHES = ServerWishes(size=(256, 456), streams=6)


def test_what_is_written_is_what_a_server_reads(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text("grace_seconds = 2.5\nreflection = true\nshort_side = 128\n\n[limits]\nmax_width = 640\n")
    wishes = ServerWishes(WISHES.size, WISHES.streams, Path("model"), "openvino", max_batch=2, config=config)
    written = tmp_path / "server.toml"
    written.write_text(as_toml(wishes.settings()))
    read = load_config(written, {})
    assert (read.engine, read.max_batch, read.grace_seconds, read.reflection) == ("openvino", 2, 2.5, True)
    assert (read.warm_up_height, read.warm_up_width) == (256, 456)
    assert read.short_side == 128, "the user's settings win over what the load would choose"
    assert read.limits.max_width == 640
    assert read.artifact is not None
    assert read.artifact.is_absolute()


def test_the_networks_work_at_the_size_of_the_frames_and_every_stream_has_a_slot() -> None:
    settings = WISHES.settings()
    assert settings["short_side"] == 256
    assert settings["max_streams"] >= 6
    assert "artifact" not in settings
    assert tomllib.loads(as_toml(settings)) == settings


def test_settings_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        ServerWishes((64, 96), 1, config=tmp_path / "nowhere.toml").settings()


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import sys; print('the artifact is broken'); sys.exit(3)"
    monkeypatch.setattr(own_program, "command", lambda *words: [own_program.sys.executable, "-c", program])
    with (
        pytest.raises(ServerFailed, match=r"ended with status 3(.|\n)*the artifact is broken"),
        own_server(tmp_path, WISHES),
    ):
        pass
