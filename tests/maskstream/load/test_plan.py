"""When frames are due: by the clock alone, with phases of their own."""

import time

import pytest

from maskstream.load.plan import ClosedLoop, Load, OpenLoop, open_loops


def test_frames_are_due_by_the_clock() -> None:
    pace = OpenLoop(started=100.0, phase=0.5, fps=4.0, frames=3)
    assert [pace.due(index) for index in range(3)] == [100.125, 100.375, 100.625]


def test_streams_of_a_load_have_random_phases_within_one_period() -> None:
    load = Load(streams=16, fps=5.0, duration_seconds=4.0, warm_up_seconds=1.0)
    paces = open_loops(load, 50.0)
    first = [pace.due(0) for pace in paces]
    assert len(set(first)) == 16
    assert all(50.0 <= due < 50.2 for due in first)
    assert max(first) - min(first) > 0.1
    assert {pace.frames for pace in paces} == {25}
    assert first == [pace.due(0) for pace in open_loops(load, 50.0)], "a load can be repeated"
    assert load.offered_fps == 80.0


def test_a_closed_loop_ends_after_its_frames_or_its_time() -> None:
    assert [ClosedLoop(frames=2).over(index) for index in (0, 1, 2)] == [False, False, True]
    assert not ClosedLoop(until=time.perf_counter() + 60).over(10**6)
    assert ClosedLoop(until=time.perf_counter()).over(0)


@pytest.mark.parametrize("fps", [0.01, 30.0])
def test_a_load_offers_a_frame_at_least(fps: float) -> None:
    assert open_loops(Load(fps=fps, duration_seconds=0.01, warm_up_seconds=0.01), 0.0)[0].frames == 1
