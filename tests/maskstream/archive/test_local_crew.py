"""A slot with workers that misbehave: programs of a few lines in place of maskstream.archive.worker."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from maskstream.archive.jobs import Died, Job, Message, PromptSource, Ready, WorkSettings
from maskstream.archive.local_crew import LocalCrew, LocalSlot
from maskstream.commands import own_program

JOB = Job("a", Path("a.mp4"), PromptSource(auto=1), Path("scratch/0"))
LISTEN = """
import sys
from multiprocessing.connection import Connection
link = Connection(int(sys.argv[1]))
settings = link.recv()
"""

Crew = Callable[[str], LocalCrew]


@pytest.fixture
def crew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Crew:
    def make(program: str) -> LocalCrew:
        monkeypatch.setattr(own_program, "command", lambda module, *words: [sys.executable, "-c", program, *words])
        return LocalCrew(WorkSettings(tmp_path, "none", 3, ("masks",), tmp_path, "1"), 2)

    return make


def words_of(crew: LocalCrew, slot: LocalSlot) -> list[Message]:
    """What the slot says next."""
    heard: list[Message] = []
    while not heard:
        crew.wait(10.0)
        heard = slot.hear()
    return heard


def test_settings_and_jobs_go_down_and_words_come_up(crew: Crew) -> None:
    crew_ = crew(
        LISTEN
        + """
import os
from maskstream.archive.jobs import Beat, Ready
link.send(Ready(f"{settings.sinks} {os.environ['OMP_NUM_THREADS']} {os.getsid(0) == os.getpid()}"))
link.send(Beat(link.recv().video, 1, None))
link.recv()
"""
    )
    slot, _ = crew_.slots
    slot.start()
    assert words_of(crew_, slot) == [Ready("('masks',) 3 True")]
    slot.give(JOB)
    assert "video='a'" in str(words_of(crew_, slot))
    crew_.close()
    assert slot.pid is None
    crew_.close()


def test_one_that_ends_leaves_its_status_and_its_last_words(crew: Crew) -> None:
    crew_ = crew(LISTEN + "sys.exit('no such library')")
    slot, _ = crew_.slots
    slot.start()
    assert words_of(crew_, slot) == [Died("the worker ended with status 1: no such library")]
    slot.start()
    assert words_of(crew_, slot) == [Died("the worker ended with status 1: no such library")]


@pytest.mark.parametrize(("name", "said"), [("SIGSEGV", "SIGSEGV"), ("SIGKILL", "SIGKILL (out of memory?)")])
def test_one_that_is_killed_in_mid_word_says_by_what(crew: Crew, name: str, said: str) -> None:
    crew_ = crew(
        LISTEN
        + f"""
import os, signal
from maskstream.archive.jobs import Ready
link.send(Ready("up"))
os.write(link.fileno(), (1000).to_bytes(4, "big") + b"half")  # of a message of a thousand bytes
os.kill(os.getpid(), signal.{name})
"""
    )
    slot, _ = crew_.slots
    slot.start()
    heard = words_of(crew_, slot)
    while not isinstance(heard[-1], Died):
        heard += words_of(crew_, slot)
    assert heard == [Ready("up"), Died(f"the worker was killed by {said}")]


def test_a_job_for_one_that_is_dead_is_no_error_but_its_death_is_heard(crew: Crew) -> None:
    crew_ = crew("import os; os._exit(7)")
    slot, _ = crew_.slots
    slot.start()
    crew_.wait(10.0)
    slot.give(JOB)
    assert words_of(crew_, slot) == [Died("the worker ended with status 7: it said nothing")]
    assert slot.hear() == []
