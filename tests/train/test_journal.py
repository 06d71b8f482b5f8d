"""Curves and pictures for people; a full disk costs them and not the run."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from train import journal as journal_module
from train.journal import Journal, NoJournal

PICTURE = np.zeros((16, 16, 3), np.uint8)


def test_a_stage_tells_its_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(tmp_path, line_steps=2)
    with journal.stage("masks1", 3) as report:
        for step in (1, 2, 3):
            report(step, {"ce": 0.5})
    journal.close()
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert said == [["masks1", "2/3", "ce", "0.500"], ["masks1", "3/3", "ce", "0.500"]]
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_full_disk_is_said_once_and_the_curves_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(tmp_path)

    class FullDisk:
        def __init__(self, folder: str) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(journal_module, "SummaryWriter", FullDisk)
        for step in range(5):
            journal.scalars({"loss": 1.0}, step)
    assert capsys.readouterr().err.count("No space left on device") == 1
    monkeypatch.setattr(journal_module, "RETRY_SECONDS", 0.0)
    journal.scalars({"loss": 1.0}, 5)
    journal.close()
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_picture_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(tmp_path)
    (tmp_path / "pictures").write_text("in the way")
    journal.picture("masks", PICTURE)
    journal.close()
    assert "no picture" in capsys.readouterr().err


def test_processes_that_follow_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent = NoJournal()
    silent.scalars({"loss": 1.0}, 1)
    silent.picture("masks", PICTURE)
    silent.say("anything")
    with silent.stage("masks1", 3) as report:
        report(1, {"ce": 0.5})
    silent.close()
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
