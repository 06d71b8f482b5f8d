"""Frames of several streams in one run of a real engine: each stream gets what it would get alone."""

import numpy as np
import pytest

from maskstream.engines import load_networks
from maskstream.moving_shapes import render
from maskstream.network_calls import run_in_lockstep
from maskstream.tracker import Prompt, Tracker


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "torch"])
def test_streams_in_one_run_get_what_they_would_get_alone(small_artifact, engine):
    networks = load_networks(small_artifact, engine)
    clips = [render(6, (64, 96), num_objects=1 + seed % 2, seed=seed) for seed in range(3)]
    together, alone = ([Tracker(networks) for _ in clips] for _ in range(2))
    for index in range(6):
        prompts = [
            [Prompt(int(i), clip.id_maps[0] == i) for i in np.unique(clip.id_maps[0]) if i] if index == 0 else []
            for clip in clips
        ]
        steps = [
            tracker.stepping(clip.frames[index], given)
            for tracker, clip, given in zip(together, clips, prompts, strict=True)
        ]
        for finished, tracker, clip, given in zip(run_in_lockstep(steps, networks), alone, clips, prompts, strict=True):
            expected = tracker.step(clip.frames[index], given)
            np.testing.assert_allclose(finished.result.coarse, expected.coarse, atol=1e-4)
            assert (finished.result.id_map != expected.id_map).mean() < 1e-3
