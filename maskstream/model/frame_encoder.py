"""Frame encoder: a ResNet written by hand (no weights from elsewhere), uint8 RGB in, key and shared features out.

Everything that does not depend on an object is computed here once: the reductions of the skips too, so that the
per-object networks stay slim.
"""

import torch
from torch import Tensor, nn

from maskstream.model.config import FINE_STRIDE, ModelConfig

PIXEL_MEAN = (0.485, 0.456, 0.406)  # of natural pictures, in RGB and 0..1; any fixed shift would do
PIXEL_STD = (0.229, 0.224, 0.225)

FINE_WIDTH = 96  # channels in which near and deep features are added


def conv_norm(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """Convolution and batch norm, which export folds into one."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = conv_norm(inputs, outputs, 3, stride)
        self.second = conv_norm(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv_norm(inputs, outputs, 1, stride)
        norm = self.second[1]
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.zeros_(norm.weight)  # each block starts as its shortcut

    def forward(self, x: Tensor) -> Tensor:
        residual = self.second(torch.relu(self.first(x)))
        return torch.relu(residual + self.shortcut(x))


class FrameEncoder(nn.Module):
    """uint8 [B, H, W, 3] -> keys [B, K + cells * F, h, w], context [B, C, h, w], skip8, skip4."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(1, 3, 1, 1) * 255, persistent=False)
        self.stem = conv_norm(3, config.widths[0], 7, 2)
        self.stages = nn.ModuleList()
        inputs = config.widths[0]
        for index, (width, blocks) in enumerate(zip(config.widths, config.blocks, strict=True)):
            shrinks = index == 1 or (index == 2 and config.stride == 16)
            layers = [
                ResidualBlock(inputs if i == 0 else width, width, 2 if shrinks and i == 0 else 1) for i in range(blocks)
            ]
            self.stages.append(nn.Sequential(*layers))
            inputs = width
        self.key_head = nn.Sequential(
            conv_norm(inputs, inputs, 1), nn.ReLU(), nn.Conv2d(inputs, config.key_channels, 1)
        )
        if config.fine_channels:
            self.fine_from8 = conv_norm(config.widths[1], FINE_WIDTH, 1)
            self.fine_from_top = conv_norm(inputs, FINE_WIDTH, 1)
            self.fine_head = nn.Conv2d(FINE_WIDTH, config.fine_channels, 1)
        self.context_head = nn.Sequential(conv_norm(inputs, config.context_channels, 1), nn.ReLU())
        self.skip8_head = nn.Sequential(conv_norm(config.widths[1], config.skip8_channels, 1), nn.ReLU())
        self.skip4_head = nn.Sequential(conv_norm(config.widths[0], config.skip4_channels, 1), nn.ReLU())

    def normalise(self, frame_BHW3: Tensor) -> Tensor:
        """uint8 frames -> float32 [B, 3, H, W] in the network's units."""
        # The cast comes first: TensorRT takes uint8 for nothing but a cast.
        return (frame_BHW3.to(self.pixel_mean.dtype).permute(0, 3, 1, 2) - self.pixel_mean) / self.pixel_std

    def backbone(self, frame_BHW3: Tensor) -> list[Tensor]:
        """Feature maps at strides 4, 8 and `stride` (a fourth stage replaces the third's)."""
        x = torch.relu(self.stem(self.normalise(frame_BHW3)))
        x = torch.nn.functional.max_pool2d(x, 3, 2, 1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return [maps[0], maps[1], maps[-1]]

    def key_parts(self) -> list[nn.Module]:
        """All that keys are made by."""
        fine = [self.fine_from8, self.fine_from_top, self.fine_head] if self.config.fine_channels else []
        return [self.stem, self.stages, self.key_head, *fine]

    def key(self, top: Tensor) -> Tensor:
        """L2-normalised key of the deepest map; the norm is taken in float32 whatever the weights are."""
        return nn.functional.normalize(self.key_head(top).float(), dim=1)

    def fine_key(self, map8: Tensor, top: Tensor) -> Tensor:
        """L2-normalised key at stride 8: what is near in the picture joined to what is deep in the network."""
        deep = nn.functional.interpolate(
            self.fine_from_top(top), size=(map8.shape[2], map8.shape[3]), mode="bilinear", align_corners=False
        )
        hidden = torch.relu(self.fine_from8(map8) + deep)
        return nn.functional.normalize(self.fine_head(hidden).float(), dim=1)

    def keys(self, map8: Tensor, top: Tensor) -> Tensor:
        """What a memory keeps to be found again [B, K + cells * F, h, w]: a token's own key, then its fine keys.

        The channels of a fine key lie together: it is compared as a whole.
        """
        if not self.config.fine_channels:
            return self.key(top)
        folded = nn.functional.pixel_unshuffle(self.fine_key(map8, top), self.config.stride // FINE_STRIDE)
        folded = folded.unflatten(1, (self.config.fine_channels, -1)).transpose(1, 2).flatten(1, 2)
        return torch.cat((self.key(top), folded), dim=1)

    def forward(self, frame_BHW3: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        map4, map8, top = self.backbone(frame_BHW3)
        return self.keys(map8, top), self.context_head(top), self.skip8_head(map8), self.skip4_head(map4)
