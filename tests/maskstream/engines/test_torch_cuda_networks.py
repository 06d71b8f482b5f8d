"""The torch engine for a GPU. On the CPU: what it computes, in every precision, and when it records and launches. On a
GPU (marked): that a recording computes what torch computes.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from exported import small_checkpoint

from export.verify import Case, cases, clip_overlaps, compare, tolerance_of
from maskstream.engines import ENGINES, load_networks, torch_cuda_networks
from maskstream.engines.torch_cuda_networks import TorchCudaNetworks, TorchCudaSettings, compiled
from maskstream.engines.torch_networks import TorchNetworks
from maskstream.engines.torch_queue import HostQueue, Recording, Work
from maskstream.errors import EngineUnavailable
from maskstream.networks import Networks

ALL = (0, 1, 2, 3)
CASES = (
    Case("one object", (4, 5), (ALL,), drawn=True),
    Case("two streams, an object nobody has seen", (3, 4), ((), (1, 2), (0,)), batch=2),
)
PRECISIONS = ("fp32", "fp16", "bf16")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class RecordingQueue(HostQueue):
    """The CPU as if it had CUDA graphs: to record is not to run; to launch is to write to the recording's outputs."""

    def __init__(self) -> None:
        self.recorded = self.launched = self.waits = 0
        self.error: RuntimeError | None = None

    def record(self, work: Work) -> Recording:
        if self.error:
            raise self.error
        self.recorded += 1
        outputs = tuple(torch.full_like(output, torch.nan) for output in work())

        def launch() -> None:
            self.launched += 1
            for output, found in zip(outputs, work(), strict=True):
                output.copy_(found)

        return Recording(outputs, launch)

    def wait(self) -> None:
        self.waits += 1


def networks_on_the_cpu(
    precision: str = "fp32", queue: HostQueue | None = None, **settings: object
) -> TorchCudaNetworks:
    chosen = TorchCudaSettings(precision, device="cpu", **settings)
    return TorchCudaNetworks(small_checkpoint().segmenter(), chosen, queue)


@pytest.fixture(scope="module")
def reference() -> Networks:
    return TorchNetworks(small_checkpoint().segmenter())


@pytest.fixture
def frames() -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    return (rng.integers(0, 256, (1, 32, 48, 3), dtype=np.uint8) for _ in range(100))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_output_is_that_of_torch_within_the_gates_bounds(reference: Networks, precision: str) -> None:
    networks = networks_on_the_cpu(precision, RecordingQueue())
    assert networks.precision == precision
    for case in CASES:
        for _ in range(3):  # as it is, recorded, launched
            rows = list(compare(reference, networks, case))
            assert [row for row in rows if not row.within(tolerance_of(precision))] == []


@pytest.mark.parametrize("precision", PRECISIONS)
def test_masks_along_a_clip_are_those_of_torch(reference: Networks, precision: str) -> None:
    overlaps = clip_overlaps(reference, networks_on_the_cpu(precision))
    assert overlaps.min() >= tolerance_of(precision).mask_iou


def test_the_second_call_of_equal_shapes_records_and_all_after_it_launch(reference, frames) -> None:
    queue = RecordingQueue()
    networks = networks_on_the_cpu(queue=queue)
    counts = []
    for frame, _ in zip(frames, range(4), strict=False):
        key = networks.encode_frame(frame).key
        np.testing.assert_allclose(key, reference.encode_frame(frame).key, atol=1e-5)
        counts.append((queue.recorded, queue.launched))
    assert counts == [(0, 0), (1, 1), (1, 2), (1, 3)]
    assert queue.waits == 4, "the host waits once for each call"


def test_an_answer_is_not_overwritten_by_the_next_call(frames) -> None:
    networks = networks_on_the_cpu(queue=RecordingQueue())
    answers = [networks.encode_frame(frame).key for frame, _ in zip(frames, range(4), strict=False)]
    copies = [answer.copy() for answer in answers]
    networks.encode_frame(next(frames))
    for answer, copied in zip(answers, copies, strict=True):
        np.testing.assert_array_equal(answer, copied)
    assert len({answer.tobytes() for answer in answers}) == 4


def test_shapes_beyond_those_kept_are_recorded_again(frames) -> None:
    queue = RecordingQueue()
    networks = networks_on_the_cpu(queue=queue, shapes_kept=2)
    frame = next(frames)
    sizes = [np.ascontiguousarray(frame[:, :, :width]) for width in (16, 32, 48)]
    wanted = [networks.encode_frame(one).key for one in sizes]
    for one, key in zip(sizes, wanted, strict=True):
        for _ in range(2):
            np.testing.assert_array_equal(networks.encode_frame(one).key, key)
    assert queue.recorded == 3, "of each of the three, as none was still held when it came again"


def test_work_that_cannot_be_recorded_runs_call_by_call_with_one_warning(frames, caplog) -> None:
    queue = RecordingQueue()
    queue.error = RuntimeError("operation not permitted when stream is capturing")
    networks = networks_on_the_cpu(queue=queue)
    frame = next(frames)
    keys = [networks.encode_frame(frame).key for _ in range(4)]
    for key in keys:
        np.testing.assert_array_equal(key, keys[0])
    assert caplog.messages == [
        "encode_frame: runs call by call, since CUDA cannot record it: operation not permitted when stream is capturing"
    ]


def test_too_little_memory_is_told_with_the_shapes_and_what_was_kept_is_let_go(frames) -> None:
    queue = RecordingQueue()
    networks = networks_on_the_cpu(queue=queue)
    frame = next(frames)
    key = networks.encode_frame(frame).key
    queue.error = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(EngineUnavailable, match=r"too little memory for frame \[1, 32, 48, 3\]; use fewer objects"):
        networks.encode_frame(frame)
    queue.error = None
    np.testing.assert_array_equal(networks.encode_frame(frame).key, key)


def test_frames_that_may_not_be_written_to_are_taken(frames) -> None:
    frame = next(frames)
    frame.flags.writeable = False
    assert networks_on_the_cpu().encode_frame(frame).key.shape[2:] == (2, 3)


def test_each_set_of_shapes_is_compiled_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch gives up after eight compilations of one function, unless each is one of its own."""
    made: list[object] = []

    def backend(module: torch.fx.GraphModule, _: object) -> object:
        made.append(module)
        return module.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    functions = [compiled(lambda x: (2 * x,), "default") for _ in range(12)]
    for _ in range(2):
        for size, function in enumerate(functions, start=2):
            assert function(torch.ones(size))[0].tolist() == [2.0] * size
    assert len(made) == 12


def test_all_networks_can_be_compiled_whole(reference, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    networks = networks_on_the_cpu("bf16", compile_mode="default")
    assert [row for row in compare(reference, networks, CASES[0]) if not row.within(tolerance_of("bf16"))] == []


def test_a_precision_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="'int8' is not one of fp32, fp16, bf16"):
        TorchCudaSettings(precision="int8")


OPENERS = {
    "torch_cuda": "open_networks",
    "torch_cuda_bf16": "open_bf16",
    "torch_cuda_fp32": "open_fp32",
    "torch_cuda_compiled": "open_compiled",
    "torch_cuda_eager": "open_eager",
}


def test_each_name_leads_to_its_opener() -> None:
    known = {name: engine for name, engine in ENGINES.items() if engine.package == "torch" and engine.gpu}
    assert {name: engine.opener for name, engine in known.items()} == OPENERS
    assert {engine.module for engine in known.values()} == {torch_cuda_networks.__name__}


@pytest.mark.parametrize("opener", OPENERS.values())
def test_without_a_gpu_no_engine_opens_and_the_cpu_does_not_step_in(opener: str, monkeypatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    artifact = SimpleNamespace(checkpoint=Path("never read"))
    with pytest.raises(EngineUnavailable, match="cuda was asked for and torch sees no GPU"):
        getattr(torch_cuda_networks, opener)(artifact, None)


def test_bfloat16_that_would_be_emulated_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = RecordingQueue()
    queue.device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    with pytest.raises(EngineUnavailable, match=r"no bfloat16 units .* use torch_cuda \(fp16\)"):
        networks_on_the_cpu("bf16", queue)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", OPENERS)
def test_a_gpu_computes_what_torch_computes(reference: Networks, small_artifact: Path, name: str) -> None:
    networks = load_networks(small_artifact, name)
    assert networks.engine == name
    compiled_for_each = name == "torch_cuda_compiled"  # which takes its time
    tolerance = tolerance_of(networks.precision)
    chosen = CASES if compiled_for_each else (*CASES, *cases(reference.spec))
    for case in chosen:
        for _ in range(3):  # as it is, recorded, launched
            assert [row for row in compare(reference, networks, case) if not row.within(tolerance)] == []
    if not compiled_for_each:
        assert clip_overlaps(reference, networks).min() >= tolerance.mask_iou


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_records_and_what_is_launched_equals_what_ran_before(frames, caplog) -> None:
    networks = TorchCudaNetworks(small_checkpoint().segmenter(), TorchCudaSettings("fp32", shapes_kept=2))
    frame = next(frames)
    sizes = [np.ascontiguousarray(frame[:, :, :width]) for width in (16, 32, 48)]
    for _ in range(2):
        for one in sizes:
            found = [networks.encode_frame(one).key for _ in range(3)]
            np.testing.assert_allclose(found[1], found[0], atol=1e-5)
            np.testing.assert_array_equal(found[2], found[1])
    assert caplog.messages == [], "nothing was left to run call by call"
