"""The torch engine: numpy in and out, and the tracker runs over it as over any other."""

import numpy as np

from maskstream.engines.torch_networks import TorchNetworks
from maskstream.model.config import ModelConfig
from maskstream.model.segmenter import Segmenter
from maskstream.tracker import Prompt, Tracker

SMALL = ModelConfig(
    widths=(8, 8, 8),
    blocks=(1, 1, 1),
    key_channels=4,
    context_channels=8,
    value_channels=8,
    skip8_channels=8,
    skip4_channels=8,
    short_side=96,
    locality_start_pixels=8.0,  # random keys tell nothing apart; nearness must
    locality_growth_pixels=8.0,
)


def test_a_still_object_stays_where_it_is() -> None:
    """Untrained networks propagate labels; with nothing moving, the mask hardly may."""
    frame = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    mask = np.zeros((96, 128), np.uint8)
    mask[32:64, 32:80] = 1
    tracker = Tracker(TorchNetworks(Segmenter(SMALL)))
    tracker.step(frame, [Prompt(1, mask)])
    found = tracker.step(frame).id_map == 1
    assert (found & (mask > 0)).sum() / (found | (mask > 0)).sum() > 0.5


def test_a_frame_that_may_not_be_written_to_is_taken() -> None:
    """Frames of a memory-mapped clip are read-only; torch warns of undefined behaviour when handed one."""
    networks = TorchNetworks(Segmenter(SMALL))
    frame = np.zeros((1, 32, 48, 3), np.uint8)
    frame.flags.writeable = False
    assert networks.encode_frame(frame).key.shape[2:] == (2, 3)
