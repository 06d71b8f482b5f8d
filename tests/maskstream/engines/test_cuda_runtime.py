"""CUDA's answers become values or errors; recordings leave the stream usable; the driver's version is read."""

from pathlib import Path

import pytest
from fake_tensorrt import FakeCudart

from maskstream.engines.cuda_runtime import Cuda, CudaError, Device, driver_version, pinned_array


def test_the_device_is_named_as_records_name_it() -> None:
    assert Cuda(FakeCudart([])).device() == Device("Some GPU", "8.9")


def test_an_answer_that_is_no_success_is_an_error_with_cudas_words() -> None:
    cudart = FakeCudart([])
    cudart.failing.add("cudaStreamSynchronize")
    with pytest.raises(CudaError, match=r"^cudaStreamSynchronize: as it was told to \(CUDA error 700\)$"):
        Cuda(cudart).synchronize(77)


def test_work_that_fails_while_it_is_recorded_ends_the_recording() -> None:
    cudart = FakeCudart([])

    def failing() -> None:
        raise ValueError("no work")

    with pytest.raises(ValueError, match="no work"):
        Cuda(cudart).record(77, failing)
    assert cudart.calls == ["cudaStreamBeginCapture", "cudaStreamEndCapture"]
    assert cudart.alive["recording"] == 0


def test_a_recording_does_not_run_before_it_is_launched() -> None:
    cudart, done = FakeCudart([]), []
    cuda = Cuda(cudart)
    recorded = cuda.record(77, lambda: cudart.queue_work(lambda: done.append(1)))
    cuda.synchronize(77)
    assert done == []
    cuda.launch(recorded, 77)
    cuda.synchronize(77)
    assert done == [1]


def test_pinned_memory_is_seen_as_an_array_and_copied_there_and_back() -> None:
    cuda = Cuda(FakeCudart([]))
    host, device = cuda.allocate_pinned(4), cuda.allocate(4)
    array = pinned_array(host, 4)
    array[:] = (1, 2, 3, 4)
    cuda.copy_to_device(device, host, 4, 77)
    cuda.synchronize(77)
    array[:] = 0
    cuda.copy_to_host(host, device, 4, 77)
    assert array.tolist() == [0, 0, 0, 0]
    cuda.synchronize(77)
    assert array.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56\nGCC version 12.2.0",
            "550.54.15",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build", "580.65.06"),
        ("NVRM version: none", None),
    ],
)
def test_the_drivers_version_is_read(tmp_path: Path, text: str, version: str | None) -> None:
    (tmp_path / "version").write_text(text)
    assert driver_version(tmp_path / "version") == version
    assert driver_version(tmp_path / "nothing") is None
