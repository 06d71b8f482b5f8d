"""Sizes of the three networks; a checkpoint carries one of these, and nothing else decides a shape."""

from dataclasses import dataclass

from maskstream.networks import NetworkSpec


@dataclass(frozen=True)
class ModelConfig:
    """Channels, strides and the constants of the read-out. `name` is the recipe's name."""

    name: str = "live_r18"
    stride: int = 16  # pixels between tokens: 16 or 8
    widths: tuple[int, ...] = (64, 128, 256)  # of the ResNet's stages, from stride 4 on; a fourth keeps the stride
    blocks: tuple[int, ...] = (2, 2, 2)
    key_channels: int = 64  # of a token
    fine_channels: int = 32  # of the keys at stride 8 that ride in a token's key; 0 for none
    context_channels: int = 128
    value_channels: int = 128  # learnt part of a value; the mask cells ride beside it
    skip8_channels: int = 48
    skip4_channels: int = 24
    temperature: float = 0.025  # of the cosine between query and key
    fine_temperature: float = 0.05
    locality_start_pixels: float = 24.0  # how far an object is expected to move within one frame ...
    locality_growth_pixels: float = 40.0  # ... and how much that grows with the square root of the slot's age
    refine_passes: int = 0  # times the decoded mask is encoded on the frame's own features and decoded again
    short_side: int = 480
    capacity: int = 6  # slots: two permanent, three recent, one last
    memory_stride: int = 5  # frames

    @property
    def cells(self) -> int:
        """Mask values a token carries: its pixels at mask stride."""
        return (self.stride // MASK_STRIDE) ** 2

    @property
    def fine_cells(self) -> int:
        """Fine keys a token carries."""
        return (self.stride // FINE_STRIDE) ** 2

    def spec(self) -> NetworkSpec:
        """What the tracker and the engines need to know."""
        return NetworkSpec(
            name=self.name,
            stride=self.stride,
            mask_stride=MASK_STRIDE,
            key_channels=self.key_channels + self.fine_cells * self.fine_channels,
            value_channels=self.value_channels + self.cells,
            short_side=self.short_side,
            capacity=self.capacity,
            memory_stride=self.memory_stride,
        )


FINE_STRIDE = 8  # pixels; of the fine keys, which follow motion within a token
MASK_STRIDE = 4  # pixels; soft masks are read, decoded and stored at this stride
