"""The token file: hashes in, tokens checked, mistakes named without what stands beside them."""

import hashlib

import pytest

from serve import tokens
from serve.config import ConfigError
from serve.errors import TokenInvalid, TokenRequired
from serve.tokens import TokenFile, new_token, read_tokens


def metadata(token):
    return (("authorization", f"Bearer {token}"),)


@pytest.fixture
def file(tmp_path):
    def write(*lines):
        path = tmp_path / "tokens.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def test_a_new_token_is_good_and_its_line_does_not_hold_it(file):
    token, line = new_token("camera 1")
    assert token not in line
    assert TokenFile(file(line)).subject_of(metadata(token)) == "camera 1"
    assert new_token("camera 1")[0] != token


@pytest.mark.parametrize("subject", ["gate-1", 'the "old" gate', "back\\slash", "Tor 5.2 = S\u00fcd #1"])
def test_any_name_that_can_be_printed_comes_back_as_it_was(file, subject):
    token, line = new_token(subject)
    assert TokenFile(file(line)).subject_of(metadata(token)) == subject


@pytest.mark.parametrize("subject", ["", "two\nlines", "a\x1b[2Jb"])
def test_other_names_are_refused(subject):
    with pytest.raises(ConfigError, match="--new-token"):
        new_token(subject)


def test_a_file_that_others_can_read_is_a_warning(file, caplog):
    path = file(new_token("a")[1])
    path.chmod(0o600)
    TokenFile(path)
    assert not caplog.records
    path.chmod(0o604)
    TokenFile(path)
    assert "tokens.toml can be read by others" in caplog.text


def test_an_empty_file_lets_nobody_in(file):
    with pytest.raises(TokenInvalid):
        TokenFile(file("")).subject_of(metadata(new_token("a")[0]))


def test_a_token_is_good_until_the_end_of_its_last_day(file):
    token, line = new_token("guest")
    digest = line.partition(" = ")[2]
    assert (
        TokenFile(file(f"guest = {{ hash = {digest}, expires = 2999-12-31 }}")).subject_of(metadata(token)) == "guest"
    )
    with pytest.raises(TokenInvalid, match="expired on 2020-01-01"):
        TokenFile(file(f"guest = {{ hash = {digest}, expires = 2020-01-01 }}")).subject_of(metadata(token))


def test_what_is_no_token_is_told_apart(file):
    known = TokenFile(file(new_token("a")[1]))
    with pytest.raises(TokenRequired):
        known.subject_of(())
    for said in ("Basic dXNlcjpwYXNz", "", "Bearer", "Bearer  ", "Bearer \u00e9"):
        with pytest.raises(TokenInvalid):
            known.subject_of((("authorization", said),))


@pytest.mark.parametrize(
    "line",
    ["a = 3", 'a = "secret"', 'a = "sha256:12"', 'a = { hash = "x" }', "a = {}", 'a = { hash = "x", expire = 1 }'],
)
def test_a_line_that_is_no_hash_is_refused_without_showing_it(file, line):
    with pytest.raises(ConfigError, match="`a` is neither") as caught:
        read_tokens(file(line))
    assert "secret" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(file, tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        read_tokens(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="expected TOML"):
        read_tokens(file("no toml at all"))


def test_a_changed_file_counts_within_a_second_and_a_broken_one_changes_nothing(file, monkeypatch, caplog):
    now = [100.0]
    monkeypatch.setattr(tokens.time, "monotonic", lambda: now[0])
    first, line = new_token("a")
    known = TokenFile(path := file(line))
    second, other = new_token("b")
    file(other, "")
    assert known.subject_of(metadata(first)) == "a", "the file is not looked at for every call"
    now[0] += 1.1
    assert known.subject_of(metadata(second)) == "b"
    with pytest.raises(TokenInvalid):
        known.subject_of(metadata(first))
    path.write_text("broken in the middle of an edi")
    now[0] += 1.1
    assert known.subject_of(metadata(second)) == "b"
    assert "stay as they were" in caplog.text
    path.unlink()
    now[0] += 1.1
    assert known.subject_of(metadata(second)) == "b"


def test_hashes_are_of_the_token_as_it_is_sent(file):
    digest = hashlib.sha256(b"my own token").hexdigest()
    assert TokenFile(file(f'me = "sha256:{digest}"')).subject_of(metadata("my own token")) == "me"
