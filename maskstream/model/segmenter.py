"""Segmenter: the three networks together, in torch. The reference that every engine is compared with."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from maskstream.model.config import ModelConfig
from maskstream.model.frame_encoder import FrameEncoder
from maskstream.model.mask_decoder import MaskDecoder
from maskstream.model.mask_encoder import MaskEncoder
from maskstream.model.read_out import affinity, read_out


class Features(NamedTuple):
    """Tensors of `maskstream.networks.FrameFeatures`."""

    key: Tensor
    context: Tensor
    skip8: Tensor
    skip4: Tensor


class Segmenter(nn.Module):
    """Frame encoder, mask encoder and mask decoder; shapes as in `maskstream.networks.Networks`, on tensors."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.frame_encoder = FrameEncoder(config)
        self.mask_encoder = MaskEncoder(config)
        self.mask_decoder = MaskDecoder(config)

    def encode_frame(self, frame_BHW3: Tensor) -> Features:
        """uint8 [B, H, W, 3] at working size -> features of the frames."""
        return Features(*self.frame_encoder(frame_BHW3))

    def encode_mask(self, context: Tensor, soft_BOHW: Tensor) -> Tensor:
        """Context and soft masks at stride 4 -> values [B, O, V, N]."""
        value: Tensor = self.mask_encoder(context, soft_BOHW)
        return value

    def segment(
        self, features: Features, key_BKTN: Tensor, value_BOVTN: Tensor, valid_BOT: Tensor, age_BT: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decoded and coarse soft masks [B, O, H/4, W/4]."""
        logits, coarse = self.segment_logits(features, key_BKTN, value_BOVTN, valid_BOT, age_BT)
        return soft_aggregate(logits), coarse

    def segment_logits(
        self, features: Features, key_BKTN: Tensor, value_BOVTN: Tensor, valid_BOT: Tensor, age_BT: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `segment`, before the objects compete: logits against a background whose logit is 0."""
        held_BT = valid_BOT.amax(dim=1)
        affinity_BPTN = affinity(features.key, key_BKTN, held_BT, age_BT, self.config)
        readout_BOVP = read_out(affinity_BPTN, value_BOVTN, valid_BOT).to(features.context.dtype)
        logits, coarse = self.mask_decoder(readout_BOVP, features.context, features.skip8, features.skip4)
        return logits, coarse


def soft_aggregate(logits_BOHW: Tensor) -> Tensor:
    """Probabilities of objects that exclude each other, in float32; background takes what they leave."""
    background = torch.zeros_like(logits_BOHW[:, :1])
    return torch.softmax(torch.cat((background, logits_BOHW), dim=1).float(), dim=1)[:, 1:]
