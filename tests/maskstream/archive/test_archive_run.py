"""What is left to do, and what becomes of it: skipped, done again, moved into place, written down."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from maskstream.archive.archive_run import SCRATCH, ArchiveRun, Plan, empty_scratch, make_plan
from maskstream.archive.jobs import DISK_FULL, DONE, FAILED, NO_PROMPT, ArchiveError, Job, Outcome, WorkersFailed
from maskstream.archive.manifest import Manifest, Record
from maskstream.archive.prompt_book import PromptBook
from maskstream.archive.supervisor import Supervisor
from maskstream.archive.videos import find_videos

SETTINGS = {"engine": "scripted"}


class Hands(Supervisor):
    """Follows nothing: writes a file where a worker would, and fails or fills the disk where it is told to."""

    def __init__(self, text: str = "masks", **reasons: str) -> None:
        self._text, self._reasons = text, reasons

    def outcomes(self, jobs: Sequence[Job]):  # type: ignore[no-untyped-def]
        for job in jobs:
            job.scratch.mkdir()
            (job.scratch / "file").write_text(self._text)
            reason = self._reasons.get(job.video, "")
            yield Outcome(job, FAILED if reason else DONE, 4, 0.5, reason, "it broke" if reason else "")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a", "b/c", "d"):
        (tmp_path / f"videos/{name}.mp4").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"videos/{name}.mp4").write_bytes(b"x")
        (tmp_path / f"prompts/{name}.txt").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"prompts/{name}.txt").write_text("1,1,9,9")
    (tmp_path / "prompts/d.txt").unlink()
    (tmp_path / "out").mkdir()
    return tmp_path


def plan_of(root: Path, manifest: Manifest) -> Plan:
    return make_plan(find_videos(root / "videos"), PromptBook(root / "prompts"), manifest, root / "out")


def work(root: Path, hands: Hands) -> tuple[Plan, list[Record]]:
    manifest = Manifest.open(root / "out", SETTINGS)
    plan = plan_of(root, manifest)
    empty_scratch(root / "out")
    run = ArchiveRun(plan, manifest, root / "out", lambda record: None)
    run.work(hands)
    return plan, run.records


def todo(root: Path) -> list[str]:
    return [todo.video.name for todo in plan_of(root, Manifest.open(root / "out", SETTINGS)).todo]


def test_what_is_done_is_in_its_place_and_is_not_done_again(root: Path) -> None:
    plan, records = work(root, Hands())
    assert [record.video for record in plan.without_prompt] == ["d"]
    assert [(record.video, record.state, record.frames) for record in records] == [("a", DONE, 4), ("b/c", DONE, 4)]
    assert (root / "out/b/c/file").read_text() == "masks"
    assert list((root / "out" / SCRATCH).iterdir()) == []
    assert Manifest.open(root / "out", SETTINGS).records["d"].state == NO_PROMPT
    again, records = work(root, Hands("others"))
    assert ([record.video for record in again.kept], records) == (["a", "b/c"], [])
    assert (root / "out/a/file").read_text() == "masks"


def test_failures_leave_no_folder_and_are_tried_by_the_next_run(root: Path) -> None:
    _, records = work(root, Hands(a="VIDEO_UNREADABLE"))
    assert [(record.video, record.state, record.error) for record in records] == [
        ("a", FAILED, "it broke"),
        ("b/c", DONE, ""),
    ]
    assert not (root / "out/a").exists()
    assert todo(root) == ["a"]
    work(root, Hands())
    assert todo(root) == []


def test_a_changed_video_or_prompt_is_followed_again_and_replaces_the_old(root: Path) -> None:
    work(root, Hands())
    (root / "videos/a.mp4").write_bytes(b"longer")
    (root / "prompts/b/c.txt").write_text("2,2,9,9")
    assert todo(root) == ["a", "b/c"]
    work(root, Hands("newer"))
    assert (root / "out/a/file").read_text() == "newer"
    assert todo(root) == []


def test_a_folder_that_was_deleted_is_made_again(root: Path) -> None:
    work(root, Hands())
    shutil.rmtree(root / "out/a")
    assert todo(root) == ["a"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_not_ours_is_never_replaced(root: Path, kind: str) -> None:
    if kind == "folder":
        (root / "out/a").mkdir()
        (root / "out/a/diary.txt").write_text("mine")
    else:
        (root / "out/a").write_text("mine")
    with pytest.raises(ArchiveError, match=r"out/a exists and is no earlier run's output"):
        work(root, Hands())
    assert next(path for path in (root / "out/a", root / "out/a/diary.txt") if path.is_file()).read_text() == "mine"


def test_a_run_killed_between_the_folder_and_its_line_has_lost_nothing(root: Path) -> None:
    work(root, Hands())
    manifest = root / "out/manifest.jsonl"
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(line for line in lines if '"video": "a"' not in line))
    assert todo(root) == []


def test_a_prompt_that_comes_later_is_seen(root: Path) -> None:
    work(root, Hands())
    (root / "prompts/d.txt").write_text("1,1,5,5")
    assert todo(root) == ["d"]


def test_when_no_video_has_a_prompt_something_is_wrong(root: Path) -> None:
    manifest = Manifest.open(root / "out", SETTINGS)
    with pytest.raises(ArchiveError, match=r"none of the 3 videos has a prompt; .* a expected a\.png"):
        make_plan(find_videos(root / "videos"), PromptBook(root / "videos"), manifest, root / "out")


def test_a_full_disk_ends_the_run_and_is_nobodys_failure(root: Path) -> None:
    with pytest.raises(WorkersFailed, match="make room"):
        work(root, Hands(a=DISK_FULL))
    assert todo(root) == ["a", "b/c"]


def test_what_cannot_be_moved_into_place_ends_the_run(root: Path) -> None:
    (root / "out/b").write_text("a file where a folder should be")
    with pytest.raises(WorkersFailed, match="cannot be written"):
        work(root, Hands())
    assert todo(root) == ["b/c"]


def test_scratch_of_a_killed_run_is_emptied(tmp_path: Path) -> None:
    (tmp_path / SCRATCH / "3/masks").mkdir(parents=True)
    assert list(empty_scratch(tmp_path).iterdir()) == []
