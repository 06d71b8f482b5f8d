"""Segmenter: the three networks together, in torch. The reference that every engine is compared with."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from maskstream.model.config import ModelConfig
from maskstream.model.frame_encoder import FrameEncoder
from maskstream.model.mask_decoder import MaskDecoder, Refined
from maskstream.model.mask_encoder import MaskEncoder
from maskstream.model.propagation import propagate

CONTEST_REACH = 17  # cells of the mask stride: what is within half of that, 32 pixels, is near
CONTEST = 3.0  # times the probability of what is near: how much the decoder is left out


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
        passes, coarse = self.segment_passes(features, (key_BKTN, value_BOVTN, valid_BOT, age_BT))
        return uncontested(soft_aggregate(passes[-1]), coarse), coarse

    def segment_passes(
        self, features: Features, memory: tuple[Tensor, Tensor, Tensor, Tensor], passes: int | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Logits after each pass, before the objects compete (the background's is 0), and the coarse masks.

        A refinement pass encodes the decoded mask and decodes once more; by default as many as the model serves.
        """
        readout_BOVP, coarse = propagate(features.key, *memory, self.config)
        like = features.context.dtype
        readout_BOVP, coarse_like = readout_BOVP.to(like), coarse.to(like)
        logits = [self.mask_decoder(readout_BOVP, coarse_like, *features[1:])]
        for _ in range(self.config.refine_passes if passes is None else passes):
            soft_BOHW = soft_aggregate(logits[-1]).to(like).detach()  # each pass answers for itself alone
            refined = Refined(soft_BOHW, self.encode_mask(features.context, soft_BOHW))
            logits.append(self.mask_decoder(readout_BOVP, coarse_like, *features[1:], refined))
        return logits, coarse


def soft_aggregate(logits_BOHW: Tensor) -> Tensor:
    """Probabilities of objects that exclude each other, in float32; background takes what they leave."""
    background = torch.zeros_like(logits_BOHW[:, :1])
    return torch.softmax(torch.cat((background, logits_BOHW), dim=1).float(), dim=1)[:, 1:]


def uncontested(decoded_BOHW: Tensor, coarse_BOHW: Tensor) -> Tensor:
    """The decoded masks where an object is alone, the propagated ones where another is near.

    A decoder that learnt without labels gives a bag to its bearer; correspondence keeps them apart. An object that is
    the only one is decoded everywhere.
    """
    others_BOHW = (coarse_BOHW.sum(dim=1, keepdim=True) - coarse_BOHW).clamp(0, 1)
    reach = CONTEST_REACH // 2
    near_BOHW = max_pool2d(others_BOHW, (CONTEST_REACH, 1), stride=1, padding=(reach, 0))
    near_BOHW = max_pool2d(near_BOHW, (1, CONTEST_REACH), stride=1, padding=(0, reach))
    alone_BOHW = (1 - CONTEST * near_BOHW).clamp_min(0)
    mixed_BOHW = alone_BOHW * decoded_BOHW + (1 - alone_BOHW) * coarse_BOHW
    return mixed_BOHW / mixed_BOHW.sum(dim=1, keepdim=True).clamp_min(1)
