"""The checkpoint: what is saved comes back, and what is not a checkpoint is refused by name."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from exported import small_checkpoint

from maskstream.checkpoint import FORMAT, VERSION, Checkpoint
from maskstream.errors import CheckpointError
from maskstream.model.segmenter import Segmenter


@pytest.fixture
def checkpoint() -> Checkpoint:
    return replace(small_checkpoint(), provenance={"clips": ["a", "b"], "licence": "ours"})


def test_weights_sizes_and_provenance_come_back(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c.pt")
    loaded = Checkpoint.load(tmp_path / "c.pt")
    assert loaded.config == checkpoint.config
    assert loaded.provenance == checkpoint.provenance
    assert all(torch.equal(loaded.weights[name], tensor) for name, tensor in checkpoint.weights.items())
    segmenter = loaded.segmenter()
    assert not segmenter.training
    assert {p.dtype for p in segmenter.parameters()} == {torch.float32}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pt: no such checkpoint; make one with maskstream-train"):
        Checkpoint.load(tmp_path / "gone.pt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"bad\.pt: not a readable checkpoint"):
        Checkpoint.load(tmp_path / "bad.pt")


def test_another_torch_file_is_not_a_checkpoint(tmp_path: Path) -> None:
    torch.save({"weights": {}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not a maskstream checkpoint"):
        Checkpoint.load(tmp_path / "other.pt")


def test_another_version_is_refused_with_both_numbers(tmp_path: Path) -> None:
    torch.save({"format": FORMAT, "version": VERSION + 1}, tmp_path / "new.pt")
    with pytest.raises(CheckpointError, match=f"checkpoint version {VERSION + 1}, this maskstream reads {VERSION}"):
        Checkpoint.load(tmp_path / "new.pt")


class Malicious:
    """Runs code when unpickled, if it is let."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code from a checkpoint ran')",)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    torch.save({"format": FORMAT, "version": VERSION, "weights": Malicious()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil\.pt: not a readable checkpoint"):
        Checkpoint.load(tmp_path / "evil.pt")


def test_a_full_disk_leaves_the_old_checkpoint(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path / "c.pt")
    before = (tmp_path / "c.pt").read_bytes()

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(tmp_path / "c.pt")
    assert (tmp_path / "c.pt").read_bytes() == before


def seen_alone(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As version 2 held them: the decoder's first mask convolution has one channel, and nothing reads the others."""
    older = {name: tensor for name, tensor in weights.items() if "from_others" not in name}
    older["mask_decoder.coarse4.weight"] = older["mask_decoder.coarse4.weight"][:, :1]
    return older


def test_decoders_of_version_2_were_told_nothing_of_other_objects(checkpoint: Checkpoint, tmp_path: Path) -> None:
    weights = Segmenter(checkpoint.config).state_dict()
    sizes = asdict(checkpoint.config)
    record = {"format": FORMAT, "version": 2, "config": sizes, "provenance": {}, "weights": seen_alone(weights)}
    torch.save(record, tmp_path / "two.pt")
    loaded = Checkpoint.load(tmp_path / "two.pt").segmenter().state_dict()
    assert not loaded["mask_decoder.from_others.weight"].any()
    assert not loaded["mask_decoder.coarse4.weight"][:, 1:].any()
    for name, tensor in seen_alone(weights).items():
        assert torch.equal(seen_alone(loaded)[name], tensor)


def test_networks_of_version_1_had_no_fine_keys_and_no_refinement(checkpoint: Checkpoint, tmp_path: Path) -> None:
    config = replace(checkpoint.config, fine_channels=0)
    weights = seen_alone(Segmenter(config).state_dict())
    older = {name: tensor for name, tensor in weights.items() if "from_refined" not in name}
    sizes = {name: value for name, value in asdict(config).items() if not name.startswith(("fine_", "refine_"))}
    record = {"format": FORMAT, "version": 1, "config": sizes, "provenance": {}, "weights": older}
    torch.save(record, tmp_path / "one.pt")
    loaded = Checkpoint.load(tmp_path / "one.pt").segmenter()
    assert loaded.config == config
    for name, tensor in weights.items():
        assert torch.equal(seen_alone(loaded.state_dict())[name], tensor)
