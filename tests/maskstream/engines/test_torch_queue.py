"""A GPU that is not there is said so; where there is one, what is recorded runs again on new inputs."""

import pytest
import torch

from maskstream.engines.torch_queue import CudaQueue, HostQueue, open_queue
from maskstream.errors import EngineUnavailable

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def test_the_cpu_has_nothing_to_record() -> None:
    queue = open_queue("cpu")
    assert isinstance(queue, HostQueue)
    with queue.running():
        assert queue.record(lambda: (torch.zeros(1),)) is None
    queue.wait()


def test_a_torch_without_cuda_is_told_apart_from_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(EngineUnavailable, match=r"cuda was asked for and torch .* is a build without CUDA; install"):
        open_queue("cuda")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineUnavailable, match=r"torch sees no GPU; .* for CUDA 13\.0, .*--gpus all"):
        open_queue("cuda")


def test_a_gpu_of_a_higher_number_than_there_are_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(EngineUnavailable, match="cuda:1 was asked for and torch sees 1 GPUs"):
        open_queue("cuda:1")


@pytest.mark.gpu
@needs_gpu
def test_a_recording_reads_its_inputs_anew() -> None:
    queue = CudaQueue()
    with queue.running():
        number = torch.ones(4, device=queue.device)
        work = lambda: (number * 2,)  # noqa: E731
        work()
        recording = queue.record(work)
        assert recording is not None
        number.fill_(5)
        recording.launch()
        found = queue.staging((4,), torch.float32)
        found.copy_(recording.outputs[0], non_blocking=True)
    queue.wait()
    assert found.is_pinned()
    assert found.tolist() == [10.0] * 4


@pytest.mark.gpu
@needs_gpu
def test_recordings_that_share_their_memory_do_not_disturb_each_other() -> None:
    queue = CudaQueue()
    found = queue.staging((2, 1000), torch.float32)
    with queue.running():
        number = torch.ones(1000, device=queue.device)
        works = [lambda factor=factor: ((number * factor).exp().log(),) for factor in (2.0, 3.0)]
        for work in works:
            work()
        recordings = [queue.record(work) for work in works]
        for place in (1, 0, 1):
            recordings[place].launch()
            found[place].copy_(recordings[place].outputs[0], non_blocking=True)
    queue.wait()
    torch.testing.assert_close(found[:, 0], torch.tensor([2.0, 3.0]))
