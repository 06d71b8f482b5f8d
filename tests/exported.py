"""A small model with random weights, exported once for all tests: an untrained decoder starts as label propagation, so
its masks mean something. torch is imported when the fixture is used, not before.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from maskstream.checkpoint import Checkpoint


def small_checkpoint(seed: int = 0) -> "Checkpoint":
    """Weights in half precision, as training saves them; batch norms as if they had seen pictures."""
    import torch

    from maskstream.checkpoint import Checkpoint
    from maskstream.model.config import ModelConfig
    from maskstream.model.segmenter import Segmenter

    config = ModelConfig(
        name="small",
        widths=(8, 16, 32),
        blocks=(1, 1, 1),
        key_channels=16,
        context_channels=16,
        value_channels=16,
        skip8_channels=8,
        skip4_channels=8,
        short_side=96,
        capacity=4,
    )
    torch.manual_seed(seed)
    weights = Segmenter(config).state_dict()
    for name, tensor in weights.items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.1)
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    halved = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    return Checkpoint(halved, config, {"data": "none: random weights"})


@pytest.fixture(scope="session")
def small_checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("checkpoint") / "small.pt"
    small_checkpoint().save(file)
    return file


@pytest.fixture(scope="session")
def small_artifact(small_checkpoint_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a verified fp32 artifact. Read it; a test that alters one takes `copied_artifact`."""
    from export.build import build_artifact
    from maskstream.checkpoint import Checkpoint

    out = tmp_path_factory.mktemp("exported") / "small"
    build_artifact(small_checkpoint_file, Checkpoint.load(small_checkpoint_file), out, "fp32", lambda: None)
    return out


@pytest.fixture
def copied_artifact(small_artifact: Path, tmp_path: Path) -> Path:
    """A copy of `small_artifact` that a test may spoil."""
    return Path(shutil.copytree(small_artifact, tmp_path / "artifact"))


@pytest.fixture
def combined_artifact(copied_artifact: Path, tmp_path: Path) -> Path:
    """The small artifact with its own graphs a second time, which call themselves int8."""
    from export.combine import add_variant
    from maskstream.artifact import Artifact, seal

    other = tmp_path / "other"
    other.mkdir()
    source = Artifact.load(copied_artifact)
    for file in (*source.graphs.values(), source.checkpoint):
        (other / file.name).write_bytes(file.read_bytes())
    seal(other, source.spec, {**source.manifest, "precision": "int8", "quantisation": {"clips": ["a"]}})
    add_variant(copied_artifact, other)
    return copied_artifact
