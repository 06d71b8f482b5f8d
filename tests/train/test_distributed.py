"""Two processes learn what one learns; when one is lost, the other ends and the run goes on from its last state.

The processes are real, talk by gloo on this machine, and are told who they are as torchrun does it.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from train.__main__ import main
from train.distributed import Group, SyncedBatchNorm2d, is_distributed, synchronise_norms

pytestmark = pytest.mark.timeout(1800)  # a busy machine is no failure; on an idle one it is seconds

PATIENCE_SECONDS = 1200

PARTS = """
import sys
import torch
from torch import nn
from train.distributed import StoppedElsewhere, join, synchronise_norms

group = join(torch.device("cpu"), 600)
given = torch.load(sys.argv[1])
net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))
net.load_state_dict(given["weights"])
synchronise_norms(net, group)
share = given["x"][list(group.share(4, "x"))].requires_grad_()
seen = group.gathered(net(share).flatten(1))
loss = torch.cdist(seen, seen).square().sum()  # compares all with all, as correspondence does
loss.backward()
group.average_gradients(list(net.parameters()))
told = group.once(lambda: f"from {group.rank}")
try:
    group.once(lambda: 1 / 0)
except (ZeroDivisionError, StoppedElsewhere) as error:
    failed = type(error).__name__
gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
made = {"loss": loss.item(), "gradients": gradients, "share": share.grad, "state": net.state_dict()}
torch.save({**made, "told": told, "failed": failed}, f"{sys.argv[1]}.{group.rank}")
group.close()
"""


class Workers:
    """Processes of one run, and what each of them says."""

    def __init__(self, folder: Path, command: list[str], size: int = 2) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.said = [folder / f"worker{rank}.txt" for rank in range(size)]
        self.processes = []
        for rank, said in enumerate(self.said):
            who = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
            told = {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": 1, "PYTHONUNBUFFERED": 1, **who}
            environment = os.environ | {name: str(value) for name, value in told.items()}
            with said.open("w") as output:
                self.processes.append(
                    subprocess.Popen([sys.executable, *command], stdout=output, stderr=output, env=environment)
                )

    def finish(self, seconds: float = PATIENCE_SECONDS) -> list[int]:
        return [process.wait(seconds) for process in self.processes]

    def everything_said(self) -> str:
        return "\n".join(path.read_text() for path in self.said)

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def launched() -> Iterator[list[Workers]]:
    """Whatever is put here is ended after the test."""
    started: list[Workers] = []
    yield started
    for workers in started:
        workers.end()


def test_norms_losses_and_gradients_are_those_of_the_whole_batch(tmp_path: Path, launched: list[Workers]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))
    x = (torch.randn(4, 3, 5, 5) * 3 + 10).requires_grad_()
    torch.save({"weights": net.state_dict(), "x": x.detach()}, tmp_path / "given")
    seen = net(x).flatten(1)
    loss = torch.cdist(seen, seen).square().sum()
    loss.backward()

    launched.append(Workers(tmp_path, ["-c", PARTS, str(tmp_path / "given")]))
    assert launched[0].finish() == [0, 0], launched[0].everything_said()
    made = [torch.load(tmp_path / f"given.{rank}") for rank in range(2)]
    close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}
    for rank, one in enumerate(made):
        assert one["loss"] == pytest.approx(loss.item(), rel=1e-5)
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(one["gradients"][name], parameter.grad, **close)
            assert torch.equal(one["gradients"][name], made[0]["gradients"][name]), "or the weights would drift apart"
        assert x.grad is not None
        torch.testing.assert_close(one["share"] / 2, x.grad[2 * rank : 2 * rank + 2], **close)
        for name, value in net.state_dict().items():
            torch.testing.assert_close(one["state"][name], value, **close)
        assert one["told"] == "from 0"
    assert [one["failed"] for one in made] == ["ZeroDivisionError", "StoppedElsewhere"]


STEPS = 3
BOTH_STAGES = [
    *("--set", f"correspondence_stage.steps={STEPS}", "--set", f"mask_stage.steps={STEPS}"),
    *("--set", "masks.encoder_rate=0.5", "--set", "masks_correspondence_weight=0.5"),
]


def curves(run: Path) -> dict[str, list[float]]:
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {name: [event.value for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_two_processes_learn_what_one_learns(video_folder: Path, tmp_path: Path, launched: list[Workers]) -> None:
    exact = ["--precision", "fp32"]  # where bf16 has units it is rounded by more than two processes may differ
    common = ["--recipe", "tiny", "--data", str(video_folder), "--threads", "1", *exact, *BOTH_STAGES]
    launched.append(Workers(tmp_path, ["-m", "train", *common, "--out", str(tmp_path / "two")]))
    assert main([*common, "--out", str(tmp_path / "one")]) == 0
    assert launched[0].finish() == [0, 0], launched[0].everything_said()

    one, two = curves(tmp_path / "one"), curves(tmp_path / "two")
    assert one.keys() == two.keys() >= {"correspondence/walk", "masks1/ce", "masks1/correspondence_walk"}
    for name, values in one.items():
        assert two[name] == pytest.approx(values, rel=1e-4, abs=1e-6), name
        assert len(values) == (1 if name.startswith("clusters") else STEPS)
    states = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("one", "two")]
    for kind in ("segmenter", "average"):
        for name, value in states[0][kind].items():
            # Adam divides by the size of a gradient: where that is all rounding, so is the direction of a step
            torch.testing.assert_close(states[1][kind][name], value, rtol=1e-2, atol=2e-3, msg=f"{kind} {name}")
    leads, follows = (path.read_text() for path in launched[0].said)
    assert "2 clips, 32 frames" in leads
    assert "fp32 on cpu, 2 processes" in leads
    assert follows == "", "process 0 speaks for all"


def wait_for(pattern: str, said: Path, seconds: float = PATIENCE_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not re.search(pattern, said.read_text()):
        assert time.monotonic() < end, said.read_text()
        time.sleep(0.1)


def test_a_lost_worker_ends_the_run_and_its_last_state_goes_on_alone(
    video_folder: Path, tmp_path: Path, launched: list[Workers]
) -> None:
    out = tmp_path / "run"
    common = ["--recipe", "tiny", "--data", str(video_folder), "--out", str(out), "--threads", "1"]
    endless = ["--set", "correspondence_stage.steps=100000", "--set", "save_seconds=0.01"]
    launched.append(Workers(tmp_path, ["-m", "train", *common, *endless]))
    wait_for("correspondence 20/", launched[0].said[0])
    launched[0].processes[1].kill()
    assert launched[0].processes[0].wait(PATIENCE_SECONDS) == 1
    said = launched[0].said[0].read_text()
    assert "process 0 of 2 lost another process of the run" in said
    assert "Go on from the last state with --resume, with any number of processes" in said
    assert "Traceback" not in said
    assert "lost another process" in (out / "run.md").read_text()

    state = torch.load(out / "state.pt", weights_only=True)
    reached = state["position"]["step"]
    assert reached > 0
    assert main([*common, "--resume", "--set", f"correspondence_stage.steps={reached + 1}", "--set", "rounds=0"]) == 0
    assert torch.load(out / "state.pt", weights_only=True)["position"] == {"stage": 1, "step": 0}


def test_alone_nothing_is_sent_and_norms_stay_as_they_are() -> None:
    alone, share, net = Group(), torch.ones(2), nn.Sequential(nn.BatchNorm2d(3))
    assert alone.gathered(share) is share
    assert alone.averaged(share) is share
    assert alone.once(lambda: 7) == 7
    assert list(alone.share(3, "clips")) == [0, 1, 2]
    synchronise_norms(net, alone)
    assert not isinstance(net[0], SyncedBatchNorm2d)


def test_shares_are_equal_and_in_order() -> None:
    assert [list(Group(rank, 2).share(4, "clips")) for rank in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match=r"masks\.clips=4 cannot be shared evenly by 3 processes; .* masks\.clips=6"):
        Group(0, 3).share(4, "masks.clips")


def test_torchrun_with_one_process_is_one_process() -> None:
    assert is_distributed({"WORLD_SIZE": "2"})
    assert not is_distributed({"WORLD_SIZE": "1"})
    assert not is_distributed({})
