"""What auto chose is taken again under the same circumstances only, and a file that is no good stops nothing."""

import json
from pathlib import Path

import pytest

from maskstream.engines import choice_cache
from maskstream.engines.choice import Choice, Trial
from maskstream.engines.choice_cache import cache_file, remember, remembered

UNDER = {"artifact": "0123456789ab", "candidates": ["onnxruntime", "openvino"], "threads": 2, "versions": {"a": "1"}}
TRIALS = (Trial("onnxruntime", "fp32", 0.5, 1.0), Trial("openvino", "fp32", 0.25, 0.99))
CHOICE = Choice("openvino", TRIALS)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where choices are kept in this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "maskstream" / "engine_choice.json"


def test_a_choice_is_taken_again_and_says_from_where(file: Path) -> None:
    assert remembered(UNDER) is None
    remember(UNDER, CHOICE)
    again = remembered(UNDER)
    assert again is not None
    assert (again.engine, again.trials) == ("openvino", TRIALS)
    assert again.reason == f"{CHOICE.reason} (timed at an earlier start; {file})"
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    "changed",
    [
        {"artifact": "ba9876543210"},
        {"candidates": ["onnxruntime", "openvino", "torch_cuda"]},
        {"threads": 1},
        {"versions": {"a": "2"}},
        {"cpu": "another"},
    ],
)
def test_other_circumstances_are_timed_again_and_kept_beside(file: Path, changed: dict[str, object]) -> None:
    remember(UNDER, CHOICE)
    other = {**UNDER, **changed}
    assert remembered(other) is None
    remember(other, Choice("onnxruntime", TRIALS))
    assert [choice.engine for choice in (remembered(UNDER), remembered(other)) if choice] == ["openvino", "onnxruntime"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", '{"format": "holidays"}', '{"format": "maskstream-engine-choice", "version": 9}']
)
def test_a_damaged_file_is_ignored_with_a_line_in_the_log_and_replaced(
    file: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    file.parent.mkdir()
    file.write_text(content)
    assert remembered(UNDER) is None
    assert f"{file}: not readable" in caplog.text
    remember(UNDER, CHOICE)
    assert remembered(UNDER) is not None


@pytest.mark.parametrize(
    "damage",
    [{"engine": "openvino"}, {"engine": "openvino", "trials": 3}, {"engine": "openvino", "trials": [{"engine": 1}]}, 7],
)
def test_a_damaged_choice_is_ignored_with_a_line_in_the_log(
    file: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    remember(UNDER, CHOICE)
    content = json.loads(file.read_text())
    content["choices"] = dict.fromkeys(content["choices"], damage)
    file.write_text(json.dumps(content))
    assert remembered(UNDER) is None
    assert "a choice in it is damaged" in caplog.text


def test_a_choice_that_its_own_figures_do_not_bear_is_not_taken(file: Path) -> None:
    remember(UNDER, Choice("openvino", (TRIALS[0], Trial("openvino", "fp32", 0.1, iou=0.5))))
    assert remembered(UNDER) is None
    remember(UNDER, Choice("torch", TRIALS))
    assert remembered(UNDER) is None


def test_a_choice_that_an_accident_decided_is_not_kept(file: Path) -> None:
    remember(UNDER, Choice("onnxruntime", (TRIALS[0], Trial("openvino", error="stopped", cut_short=True))))
    assert not file.exists()


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("a file where a folder would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    remember(UNDER, CHOICE)
    assert remembered(UNDER) is None


def test_the_oldest_choices_go(file: Path) -> None:
    for threads in range(40):
        remember({**UNDER, "threads": threads}, CHOICE)
    assert remembered({**UNDER, "threads": 0}) is None
    assert remembered({**UNDER, "threads": 39}) is not None
    assert len(json.loads(file.read_text())["choices"]) == 32


@pytest.mark.parametrize("given", ["", "relative/folder"])
def test_the_cache_is_in_the_home_unless_a_whole_path_is_given(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", "/home/of/somebody")
    assert cache_file() == Path("/home/of/somebody/.cache/maskstream/engine_choice.json")


def test_a_user_without_a_home_has_no_cache_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(self: Path) -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(choice_cache.Path, "expanduser", homeless)
    remember(UNDER, CHOICE)
    assert remembered(UNDER) is None
