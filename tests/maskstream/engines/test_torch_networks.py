"""The torch engine: numpy in and out, and the tracker runs over it as over any other."""

from dataclasses import replace

import numpy as np
from exported import small_checkpoint

from maskstream.engines.torch_networks import TorchNetworks
from maskstream.model.segmenter import Segmenter
from maskstream.tracker import Prompt, Tracker

# Random keys tell nothing apart; nearness must.
SMALL = replace(small_checkpoint().config, locality_start_pixels=8.0, locality_growth_pixels=8.0)


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
