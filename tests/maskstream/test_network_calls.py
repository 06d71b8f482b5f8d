"""Steps in lockstep answer as each would alone, whoever shares a run with them and whatever happens to the others."""

import numpy as np
import pytest
from fakes import FakeNetworks
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstream.errors import NoObjects
from maskstream.network_calls import run_in_lockstep
from maskstream.networks import FrameFeatures
from maskstream.tracker import Prompt, Tracker


class CountingNetworks(FakeNetworks):
    """Notes the batch of each call; fails for a batch that holds a frame of the colour `poison`."""

    poison = -1

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def encode_frame(self, frame_BHW3: np.ndarray) -> FrameFeatures:
        self.batches.append(len(frame_BHW3))
        if (frame_BHW3 == self.poison).any():
            raise RuntimeError("poison")
        return super().encode_frame(frame_BHW3)


def frame_of(colour: int, size: tuple[int, int] = (64, 96)) -> np.ndarray:
    return np.full((*size, 3), colour, np.uint8)


def prompts_of(count: int, size: tuple[int, int]) -> list[Prompt]:
    prompts = []
    for i in range(count):
        mask = np.zeros(size, np.uint8)
        mask[16:48, 16 * i : 16 * i + 16] = 1
        prompts.append(Prompt(i + 1, mask))
    return prompts


@given(
    streams=st.lists(st.tuples(st.sampled_from([(64, 96), (48, 64)]), st.integers(1, 3)), min_size=1, max_size=5),
    frames=st.integers(2, 4),
)
@settings(max_examples=25)
def test_every_stream_gets_the_answers_it_would_get_alone(
    streams: list[tuple[tuple[int, int], int]], frames: int
) -> None:
    networks = CountingNetworks()
    together = [Tracker(networks) for _ in streams]
    alone = [Tracker(networks) for _ in streams]
    for frame in range(frames):
        steps, expected = [], []
        for place, (size, objects) in enumerate(streams):
            picture = frame_of(10 * place + frame, size)
            prompts = prompts_of(objects, size) if frame == 0 else []
            steps.append(together[place].stepping(picture, prompts))
            expected.append(alone[place].step(picture, prompts))
        for finished, answer in zip(run_in_lockstep(steps, networks), expected, strict=True):
            np.testing.assert_array_equal(finished.result.id_map, answer.id_map)
            np.testing.assert_array_equal(finished.result.coarse, answer.coarse)
            assert finished.result.objects == answer.objects


def test_frames_of_one_size_share_one_run() -> None:
    networks = CountingNetworks()
    trackers = [Tracker(networks) for _ in range(3)]
    steps = [tracker.stepping(frame_of(9), prompts_of(2, (64, 96))) for tracker in trackers]
    run_in_lockstep([*steps, Tracker(networks).stepping(frame_of(9, (48, 64)), prompts_of(1, (48, 64)))], networks)
    assert networks.batches == [3, 1]


def test_a_callers_mistake_is_its_own() -> None:
    networks = CountingNetworks()
    good, bad = Tracker(networks), Tracker(networks)
    finished = run_in_lockstep(
        [bad.stepping(frame_of(1)), good.stepping(frame_of(1), prompts_of(1, (64, 96)))], networks
    )
    assert isinstance(finished[0].error, NoObjects)
    assert (finished[1].result.id_map == 1).any()


def test_the_frame_that_breaks_a_shared_run_breaks_its_stream_alone() -> None:
    networks = CountingNetworks()
    networks.poison = 66
    steps = [Tracker(networks).stepping(frame_of(c), prompts_of(1, (64, 96))) for c in (1, 66, 3)]
    finished = run_in_lockstep(steps, networks)
    assert [str(each.error) for each in finished] == ["None", "poison", "None"]
    assert networks.batches == [3, 1, 1, 1]


def test_a_step_alone_raises_what_the_networks_raise() -> None:
    networks = CountingNetworks()
    networks.poison = 5
    with pytest.raises(RuntimeError, match="poison"):
        Tracker(networks).step(frame_of(5), prompts_of(1, (64, 96)))


def test_features_that_are_not_finite_in_one_stream_do_not_reach_another() -> None:
    class Overflowing(FakeNetworks):
        def encode_frame(self, frame_BHW3: np.ndarray) -> FrameFeatures:
            features = super().encode_frame(frame_BHW3)
            features.key[frame_BHW3.mean(axis=(1, 2, 3)) > 200] = np.nan
            return features

    networks = Overflowing()
    trackers = [Tracker(networks), Tracker(networks)]
    prompts = prompts_of(1, (64, 96))
    run_in_lockstep([tracker.stepping(frame_of(9), prompts) for tracker in trackers], networks)
    for colours in ((255, 9), (9, 9)):
        finished = run_in_lockstep(
            [tracker.stepping(frame_of(colour)) for tracker, colour in zip(trackers, colours, strict=True)], networks
        )
        for each in finished:
            assert (each.result.id_map == 1).sum() > 300
    assert trackers[0].writes_skipped["not_finite"] == 1
    assert trackers[1].writes_skipped["not_finite"] == 0
