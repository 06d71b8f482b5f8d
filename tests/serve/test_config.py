"""Settings: defaults, a file over them, flags over the file; what is misspelt or senseless is refused."""

from pathlib import Path

import pytest

from serve.config import ConfigError, Limits, ServeConfig, load_config


@pytest.fixture
def file(tmp_path):
    def write(text: str) -> Path:
        (tmp_path / "serve.toml").write_text(text)
        return tmp_path / "serve.toml"

    return write


def test_without_anything_the_defaults_hold():
    assert load_config(None, {}) == ServeConfig()


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(file):
    path = file('max_streams = 3\nbank_mib = 77\nartifact = "models/mine"\n[limits]\nmax_width = 640\n')
    config = load_config(path, {"max_streams": 5, "bank_mib": None})
    assert (config.max_streams, config.bank_mib, config.artifact) == (5, 77, Path("models/mine"))
    assert config.limits == Limits(max_width=640)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_strems = 3", "max_strems"),
        ("[limits]\nmax_widht = 3", "max_widht"),
        ("limits = 3", "limits"),
        ("max_streams = 0", "more than 0"),
        ('max_streams = "many"', "max_streams"),
        ("max_streams = true", "max_streams"),
        ("reflection = 1", "reflection"),
        ("[limits]\nmax_objects = 300", "255"),
        ("[limits]\nidle_timeout_seconds = -1", "idle_timeout_seconds"),
        ("not toml at all", "cannot read"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(file, text, words):
    with pytest.raises(ConfigError, match=words):
        load_config(file(text), {})


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ConfigError, match="nowhere"):
        load_config(tmp_path / "nowhere.toml", {})
