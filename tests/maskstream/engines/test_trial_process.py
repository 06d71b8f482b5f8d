"""A trial's process answers, refuses, dies or hangs; each is told in words. And the trial itself, on fake networks."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeNetworks

from maskstream.engines import trial, trial_process
from maskstream.engines.choice import TrialCutShort
from maskstream.engines.trial_process import run_trial
from maskstream.errors import EngineUnavailable

SAVED = "import numpy as np; np.savez(request['masks_file'], coarse=np.ones((2, 3)), answered=np.zeros((4, 5)))\n"
ANSWER = "print(json.dumps({'precision': 'bf16', 'seconds': 0.25}))\n"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that stand for the trial; `request` is what it was asked."""
    lines = ["import json, sys, time; request = json.loads(sys.argv[1])\n"]
    monkeypatch.setattr(
        trial_process.own_program,
        "command",
        lambda module, *arguments: [sys.executable, "-c", "".join(lines), *arguments],
    )
    return lines


def test_an_answer_is_read_whatever_a_library_printed_before_it(program: list[str], tmp_path: Path) -> None:
    program += ["print('welcome to the library')\n", SAVED, ANSWER]
    found = run_trial(tmp_path, "any", 2)
    assert (found.precision, found.seconds) == ("bf16", 0.25)
    assert found.coarse.tolist() == np.ones((2, 3)).tolist()
    assert found.answered.shape == (4, 5)


def test_the_process_is_asked_for_this_engine_on_this_artifact(program: list[str], tmp_path: Path) -> None:
    program += ["print(json.dumps({'refused': ' '.join(map(str, request.values()))}))\n"]
    with pytest.raises(EngineUnavailable, match=rf"^{tmp_path} openvino 3 /.*/masks\.npz$") as refused:
        run_trial(tmp_path, "openvino", 3)
    assert not isinstance(refused.value, TrialCutShort), "it would refuse again"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["sys.exit(3)\n"], "ended with status 3: it said nothing"),
        (["print('a\\nb\\nout of\\nmemory', file=sys.stderr); sys.exit(1)\n"], "status 1: b / out of / memory"),
        (["import os; os.kill(os.getpid(), 9)\n"], "ended with status -9"),
        ([], "printed no answer: it said nothing"),
        (["print('[1]')\n"], r"answered \[1\]"),
        ([ANSWER], "left no masks that can be read: FileNotFoundError"),
        (["open(request['masks_file'], 'w').write('x')\n", ANSWER], "left no masks that can be read"),
        ([SAVED, "print('{}')\n"], "left no masks that can be read: KeyError"),
    ],
)
def test_a_process_that_dies_or_talks_nonsense_is_told_with_its_last_words(
    program: list[str], tmp_path: Path, lines: list[str], told: str
) -> None:
    program += lines
    with pytest.raises(TrialCutShort, match=told):
        run_trial(tmp_path, "any", None)


def test_a_process_that_hangs_is_stopped(program: list[str], tmp_path: Path) -> None:
    program += ["time.sleep(600)\n"]
    started = time.monotonic()
    with pytest.raises(TrialCutShort, match="stopped after 1 seconds"):
        run_trial(tmp_path, "any", None, seconds=1.0)
    assert time.monotonic() - started < 60


def test_a_process_that_cannot_be_started_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(TrialCutShort, match="cannot be started"):
        run_trial(tmp_path, "any", None)


def test_a_trial_steps_at_the_networks_own_size_and_leaves_the_first_frames_out() -> None:
    networks = FakeNetworks()
    networks.spec = replace(networks.spec, short_side=64)
    seen: list[tuple[int, ...]] = []
    encode_frame = networks.encode_frame

    def slow_at_first(frame: np.ndarray) -> object:
        seen.append(frame.shape)
        time.sleep(0.3 if len(seen) <= 3 else 0.0)
        return encode_frame(frame)

    networks.encode_frame = slow_at_first  # type: ignore[assignment, method-assign]
    found = trial.measure(networks)
    assert seen == [(1, 64, 112, 3)] * 6
    assert found.precision == "fp32"
    assert found.seconds < 0.3
    assert (found.coarse.shape, found.answered.shape) == ((16, 28), (64, 112))
    assert found.answered.any(), "an object is followed"


def test_the_program_prints_why_an_engine_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = {"artifact": str(tmp_path), "engine": "onnxruntime", "threads": 1, "masks_file": str(tmp_path / "m.npz")}
    trial.main(json.dumps(request))
    assert "so this folder is no artifact" in json.loads(capsys.readouterr().out)["refused"]
    assert not (tmp_path / "m.npz").exists()
