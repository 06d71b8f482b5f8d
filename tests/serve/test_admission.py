"""Who gets a slot, who does not, and what the refused are told."""

import mmap

import pytest

from maskstream.block_pool import BlockPool
from serve.admission import Admission, Bounds, Phase
from serve.errors import ClientStreamLimit, Draining, EngineFailed, ServerFull, Warming, status_of

POOL = 8 * mmap.PAGESIZE


def admission_of(bounds=None, smallest=1, utilisation=lambda: 0.0):
    admission = Admission(bounds or Bounds(3), BlockPool(POOL, mmap.PAGESIZE), smallest, utilisation)
    admission.phase = Phase.SERVING
    return admission


@pytest.mark.parametrize(
    ("phase", "error"), [(Phase.WARMING, Warming), (Phase.DRAINING, Draining), (Phase.BROKEN, EngineFailed)]
)
def test_only_a_serving_server_admits(phase, error):
    admission = admission_of()
    admission.phase = phase
    with pytest.raises(error):
        admission.admit("a")
    assert admission.active == 0


def test_slots_run_out_and_come_back():
    admission = admission_of()
    for client in "abc":
        admission.admit(client)
    with pytest.raises(ServerFull, match="all 3 streams"):
        admission.admit("d")
    admission.release("b")
    admission.admit("d")
    assert admission.active == 3


def test_a_client_has_its_own_bound_and_no_account_is_left_behind():
    admission = admission_of(Bounds(10, max_streams_per_client=2))
    for client in "aab":
        admission.admit(client)
    with pytest.raises(ClientStreamLimit) as caught:
        admission.admit("a")
    assert "QuotaFailure" in str(status_of(caught.value))
    for client in "aab":
        admission.release(client)
    assert not admission._of_client


def test_a_busy_engine_takes_no_more_but_always_a_first():
    busy = [0.97]
    admission = admission_of(Bounds(10, max_utilisation=0.9), utilisation=lambda: busy[0])
    admission.admit("a")
    with pytest.raises(ServerFull, match="97%"):
        admission.admit("b")
    busy[0] = 0.5
    admission.admit("b")


def test_a_pool_without_room_for_a_stream_refuses_it():
    admission = admission_of(smallest=4 * mmap.PAGESIZE)
    held = admission._pool.take((5 * mmap.PAGESIZE // 4,))
    with pytest.raises(ServerFull, match="memory bank"):
        admission.admit("a")
    admission._pool.give(held)
    admission.admit("a")


def test_the_wait_grows_with_the_crowd_and_differs():
    admission = admission_of(Bounds(1))
    admission.admit("a")
    waits = []
    for _ in range(200):
        with pytest.raises(ServerFull) as caught:
            admission.admit("b")
        waits.append(caught.value.retry_after_seconds)
    assert len(set(waits)) > 190
    assert max(waits[:5]) < 2 < max(waits[100:]) <= 10
    admission.release("a")
    admission.admit("b")
    with pytest.raises(ServerFull) as caught:
        admission.admit("c")
    assert caught.value.retry_after_seconds < 2
