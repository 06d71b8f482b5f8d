"""Checkpoint: the file contract between train and export. Weights, the model's sizes, and where they come from.

Loaded with `weights_only`, so a checkpoint from a stranger cannot run code.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskstream.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from maskstream.model.config import ModelConfig
    from maskstream.model.segmenter import Segmenter

FORMAT = "maskstream-checkpoint"
VERSION = 3


def default_checkpoint() -> Path:
    """The weights that ship with maskstream."""
    return Path(__file__).parent / "weights" / "live_r18" / "checkpoint.pt"


@dataclass(frozen=True)
class Checkpoint:
    """Weights in half or single precision, their `ModelConfig`, and provenance: data, command, figures, licence."""

    weights: "dict[str, Tensor]"
    config: "ModelConfig"
    provenance: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write atomically: a full disk leaves the file that was there before."""
        import torch

        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        record = {"format": FORMAT, "version": VERSION, "config": asdict(self.config), "provenance": self.provenance}
        torch.save({**record, "weights": self.weights}, partial)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Raises CheckpointError naming the file, what was expected and what was found."""
        import torch

        from maskstream.model.config import ModelConfig

        if not path.is_file():
            raise CheckpointError(f"{path}: no such checkpoint; make one with maskstream-train")
        try:
            record = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many types for a damaged file
            raise CheckpointError(f"{path}: not a readable checkpoint ({type(error).__name__}: {error})") from error
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise CheckpointError(f"{path}: a torch file, but not a maskstream checkpoint")
        if record["version"] == 1:
            record = _from_version_1(record)
        if record["version"] == 2:
            record = _from_version_2(record)
        if record["version"] != VERSION:
            raise CheckpointError(f"{path}: checkpoint version {record['version']}, this maskstream reads {VERSION}")
        sizes: dict[str, Any] = record["config"]
        return cls(record["weights"], ModelConfig(**sizes), record["provenance"])

    def segmenter(self) -> "Segmenter":
        """The networks with these weights, in float32 and evaluation mode."""
        from maskstream.model.segmenter import Segmenter

        segmenter = Segmenter(self.config)
        segmenter.load_state_dict(
            {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in self.weights.items()}
        )
        return segmenter.eval()


def _from_version_1(record: dict[str, Any]) -> dict[str, Any]:
    """Networks without fine keys, whose decoder knew no refinement: its convolution starts at zero, as in training."""
    import torch

    weights = dict(record["weights"])
    weights["mask_decoder.from_refined.weight"] = torch.zeros_like(weights["mask_decoder.from_readout.weight"])
    return {**record, "version": 2, "config": {**record["config"], "fine_channels": 0}, "weights": weights}


def _from_version_2(record: dict[str, Any]) -> dict[str, Any]:
    """Networks whose decoder saw each object alone: what it is told of the others weighs nothing at first."""
    import torch

    weights = dict(record["weights"])
    alone = weights["mask_decoder.coarse4.weight"]
    wide, cells = weights["mask_decoder.from_readout.weight"].shape[0], (record["config"]["stride"] // 4) ** 2
    weights["mask_decoder.coarse4.weight"] = torch.cat((alone, torch.zeros_like(alone)), dim=1)
    weights["mask_decoder.from_others.weight"] = alone.new_zeros((wide, cells, 3, 3))
    return {**record, "version": 3, "weights": weights}
