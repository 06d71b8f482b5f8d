"""Settings: defaults, a file over them, flags over the file; what is misspelt or senseless is refused."""

import dataclasses
import re
from pathlib import Path

import pytest

from serve.config import AuthSettings, ConfigError, Limits, ServeConfig, TlsSettings, load_config
from serve.tracing import TraceSettings


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


def test_the_guide_shows_every_setting_with_its_default(file):
    guide = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text()
    block = re.search(r"^```toml\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)[1]
    assert load_config(file(block), {}) == ServeConfig()
    flags_alone = {"artifact", "engine", "threads", "listen", "http"}
    tables = {"limits": Limits, "tls": TlsSettings, "auth": AuthSettings, "tracing": TraceSettings}
    for owner in (ServeConfig, *tables.values()):
        for entry in dataclasses.fields(owner):
            shown = re.search(rf"^(# )?{entry.name} = ", block, re.MULTILINE)
            assert shown or entry.name in flags_alone | set(tables), entry.name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tls]\ncertificate = 'a.pem'", "certificate and key"),
        ("[tls]\nclient_ca = 'a.pem'", "client_ca needs"),
        ("[tls]\ncertifcate = 'a.pem'", r"certifcate in \[tls\]"),
        ("tls = 'a.pem'", r"\[tls\]"),
        ("[auth]\ntokens = 3", "path"),
        ("max_utilisation = 1.5", "0 to 1"),
        ("bank_mib = -1", "0 or more"),
        ("max_utilisation = nan", "max_utilisation"),
        ("log_format = 'xml'", "text or json"),
        ("[limits]\nmax_snapshot_mib = 64", "max_message_mib"),
        ("[limits]\nmax_streams_per_client = -1", "max_streams_per_client must be 0 or more"),
        ("[limits]\nmax_prompts_per_second = -1", "max_prompts_per_second must be 0 or more"),
        ("max_batch = -1", "max_batch must be 0 or more"),
        ("max_connection_age_seconds = 0.0001", "at least 1, or 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(file, text, words):
    with pytest.raises(ConfigError, match=words):
        load_config(file(text), {})


@pytest.mark.parametrize(
    "text",
    [
        "max_connection_age_seconds = inf",
        "max_connection_age_seconds = 1e9",
        "grace_seconds = inf",
        "max_streams = 99999999999",
        "[limits]\nidle_timeout_seconds = inf",
        "[limits]\nmax_message_mib = 2048",
        "[limits]\nmax_width = 5000000000",
    ],
)
def test_a_number_that_grpc_or_a_message_could_not_hold_is_refused(file, text):
    name = text.rpartition("\n")[2].partition(" ")[0]
    with pytest.raises(ConfigError, match=f"{name} is at most"):
        load_config(file(text), {})


def test_a_flag_can_be_of_a_table(file):
    config = load_config(file("[tls]\ncertificate = 'a.pem'\n"), {"tls.key": Path("a.key"), "auth.tokens": None})
    assert config.tls == TlsSettings(Path("a.pem"), Path("a.key"))
    with pytest.raises(ConfigError, match=r"\[tls\]"):
        load_config(file("tls = 3"), {"tls.key": Path("a.key")})
