"""The device and the precision that words stand for, and convolutions in bf16."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from train.compute import choose_compute, convolve_in_bf16, cpu_is_fast_in_bf16, moved, usable_cores
from train.mask_learning import MaskBatch

CPU = torch.device("cpu")


def test_a_gpu_that_is_not_there_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="finds no GPU; install its CUDA build"):
        choose_compute("cuda", "auto")
    assert choose_compute("auto", "fp32").device == CPU


def test_a_gpu_is_taken_where_there_is_one_with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert str(choose_compute("auto", "auto", local_rank=1)) == "bf16 on cuda"
    assert choose_compute("auto", "auto", local_rank=1).device == torch.device("cuda", 1)
    assert choose_compute("cpu", "fp32", local_rank=5).device == CPU
    with pytest.raises(ValueError, match="process 2 of this machine has no GPU of its own, there are 2"):
        choose_compute("auto", "auto", local_rank=2)


@pytest.mark.parametrize(
    ("flags", "fast"),
    [("fpu avx512f avx512_bf16", True), ("amx_bf16 amx_tile", True), ("avx2 avx512f avx512_vnni", False)],
)
def test_a_cpu_is_asked_for_its_bf16_units(tmp_path: Path, flags: str, fast: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert cpu_is_fast_in_bf16(tmp_path / "cpuinfo") is fast
    assert not cpu_is_fast_in_bf16(tmp_path / "nowhere")
    assert usable_cores() >= 1


def test_convolutions_in_bf16_keep_names_weights_and_gradients_in_float32() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    picture = torch.rand(2, 3, 8, 8)
    exact, names = net(picture), list(net.state_dict())
    convolve_in_bf16(net)
    rounded = net(picture)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.05)
    rounded.float().sum().backward()
    assert list(net.state_dict()) == names
    assert {p.dtype for p in net.parameters()} == {p.grad.dtype for p in net.parameters()} == {torch.float32}  # type: ignore[union-attr]


def test_batches_move_whole() -> None:
    parts: dict[str, Any] = {name: torch.zeros(2) for name in MaskBatch.__dataclass_fields__}
    batch = {"masks": MaskBatch(**parts), "first": torch.ones(3)}
    there = moved(batch, torch.device("meta"))
    assert there["first"].device.type == "meta"
    assert {getattr(there["masks"], name).device.type for name in parts} == {"meta"}
