"""`maskstream track-many --ray` on a cluster of two nodes on this machine: an actor killed in mid-video, then resumed.

The cluster lives in a process of its own, for Ray warns of things that are errors in these tests.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny_archive import FRAMES, LONG, masks_under, start, ten_videos, until, words, workers_at

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="NO RAY HERE: pip install 'maskstream[ray]'"),
]

CLUSTER = """
import sys
from ray.cluster_utils import Cluster
node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "temp_dir": sys.argv[1], "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=node)
cluster.add_node(**node)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@contextmanager
def two_nodes(said: Path) -> Iterator[str]:
    """The address of a cluster of two nodes with one core each; empty when it did not start. `said` has its log."""
    with (
        said.open("a") as log,
        # not in pytest's folder: the path of a socket has to be short
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        subprocess.Popen(
            [sys.executable, "-c", CLUSTER, folder],
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        address = next((line.strip() for line in process.stdout if ":" in line), "")
        if not address:  # what did start of it must not be in the way of the next
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        yield address
        with suppress(BrokenPipeError):
            process.stdin.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster. On a busy machine a node can miss the 30 seconds that Ray gives it: tried thrice."""
    said = tmp_path_factory.mktemp("ray") / "log"
    with ExitStack() as stack:
        address = next(filter(None, (stack.enter_context(two_nodes(said)) for _ in range(3))), "")
        assert address, f"no Ray cluster could be started: {said.read_text()[-3000:]}"
        yield address


def test_a_killed_actor_costs_nothing_and_the_result_is_that_of_this_machine(cluster: str, tmp_path: Path) -> None:
    ten_videos(tmp_path)
    shared = ("--sinks", "masks,jsonl", "--json", "-")
    process = start(words(tmp_path, "ray", *shared, "--ray", cluster), strict=False)
    until(lambda: workers_at(tmp_path / "ray", FRAMES + 2), 90.0)
    (actor,) = workers_at(tmp_path / "ray", FRAMES + 2)
    os.kill(actor, signal.SIGKILL)
    printed, told = process.communicate(timeout=120)
    report = json.loads(printed)
    assert process.returncode == 1  # two videos cannot be read
    assert report["videos"] == {"done": 7, "done before": 0, "failed": 2, "no prompt": 1, "not reached": 0}
    assert (report["workers"], report["frames"]) == (2, LONG + 6 * FRAMES)
    assert "it is tried once more" in told
    lines = [json.loads(line) for line in (tmp_path / "ray/manifest.jsonl").read_text().splitlines()[1:]]
    assert [line["attempts"] for line in lines if line["video"] == "good0"] == [2]

    alone = start(words(tmp_path, "alone", *shared, "--workers", "1"))
    alone.communicate(timeout=120)
    assert masks_under(tmp_path / "ray") == masks_under(tmp_path / "alone")

    resumed = start(words(tmp_path, "ray", *shared))  # on this machine: where it was done does not matter
    printed, _ = resumed.communicate(timeout=120)
    assert json.loads(printed)["videos"]["done before"] == 7
