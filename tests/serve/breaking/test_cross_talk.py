"""Sixteen streams at once, no two alike: each must get, bit for bit, what it gets when it is alone.

The networks of these tests follow colours and every stream has its own, so a frame, a memory or an answer that went to
the wrong stream shows at once. Answers are compared as they came off the wire.
"""

import random
import threading

import grpc
import numpy as np
import pytest
from hostile import FAILURE_COLOUR, NAN_COLOUR, ColourNetworks, one_colour
from served import TIMEOUT, eventually, png, prompt, square

from maskstream.v1 import maskstream_pb2 as pb

SIZES = ((64, 96), (64, 96), (64, 96), (96, 64))  # most share a size, hence a batch
ENCODINGS = (pb.MASK_ENCODING_LABEL_RUNS, pb.MASK_ENCODING_PNG, pb.MASK_ENCODING_RAW)
FRAMES = 14


class Script:
    """What one stream sends: frames with moving blocks of its own colours, objects that come and go."""

    def __init__(self, number: int) -> None:
        dice = random.Random(number)
        self.size = dice.choice(SIZES)
        self.latest = number % 4 == 0  # slow: it waits for each answer, so nothing is dropped
        self.options = {
            "session_id": f"stream-{number}",
            "delivery": pb.DELIVERY_POLICY_LATEST if self.latest else pb.DELIVERY_POLICY_LOSSLESS,
            "max_in_flight": dice.randint(1, 8),
            "output": pb.OutputOptions(encoding=dice.choice(ENCODINGS), per_object_stats=True),
        }
        self.requests = [self._request(turn, dice) for turn in range(FRAMES)]

    def _request(self, turn: int, dice: random.Random) -> dict:
        """Objects: one from the first frame on; a second and third later; one is removed; all are, and one is new."""
        dots = [dice.randrange(256) for _ in range(2)]
        frame = blocks(self.size, turn, dice)
        prompts = []
        if turn == 0:
            self.objects = {}
            prompts = [self._new_object(dice)]
        elif turn in (4, 6) and dots[0] % 3:
            prompts = [self._new_object(dice)]
        elif turn == 8 and len(self.objects) > 1:
            gone = dice.choice(sorted(self.objects))
            del self.objects[gone]
            return {"remove_objects": pb.RemoveObjects(object_ids=[gone])}
        elif turn == 10 and dots[1] % 2:
            self.objects = {}
            return {"reset": pb.Reset()}
        elif not self.objects:
            prompts = [self._new_object(dice)]
        return {"frame": pb.Frame(png=png(frame), prompts=pb.SetObjects(objects=prompts))}

    def _new_object(self, dice: random.Random) -> pb.ObjectPrompt:
        object_id = dice.choice([i for i in range(1, 256) if i not in self.objects])
        rows, columns = self.size[0] // 16, self.size[1] // 16
        region = square(16 * dice.randrange(rows), 16 * dice.randrange(columns), size=self.size)
        self.objects[object_id] = region
        return prompt(object_id, region)


def blocks(size, turn, dice):
    """Blocks of a token's size in random colours, drawn anew for each stream and shifted from frame to frame."""
    colours = np.random.default_rng(dice.randrange(2**32)).integers(8, 256, (size[0] // 16, size[1] // 16, 3), np.uint8)
    return np.roll(colours, turn, axis=1).repeat(16, axis=0).repeat(16, axis=1)


def play(running, script):
    """All answers of a stream, as bytes, in the order they came."""
    stream = running.stream(**script.options)
    answers = [stream.opened]
    for request in script.requests:
        stream.send(**request)
        if script.latest:
            answers.append(stream.receive())
    stream.half_close()
    answers += stream.rest()
    assert stream.rpc.code() is grpc.StatusCode.OK
    return [answer.SerializeToString(deterministic=True) for answer in answers]


def at_once(jobs):
    """What each job returns, all running at the same time."""
    results = [None] * len(jobs)

    def run(place):
        results[place] = jobs[place]()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * TIMEOUT)
    return results


@pytest.mark.parametrize("max_batch", [1, 8])
def test_sixteen_streams_get_what_each_gets_alone(start, max_batch):
    scripts = [Script(number) for number in range(16)]
    alone = start(ColourNetworks(), max_streams=1, max_batch=1)
    solo = []
    for script in scripts:
        solo.append(play(alone, script))
        eventually(lambda: alone.sample("streams_active") == 0)
    assert len({str(answers) for answers in solo}) == 16, "two streams are alike: a mix-up could hide"
    networks = ColourNetworks(delay_seconds=0.001)
    together = start(networks, max_streams=16, max_batch=max_batch)
    del networks.batches[:]
    crowd = at_once([lambda script=script: play(together, script) for script in scripts])
    assert [answers == expected for answers, expected in zip(crowd, solo, strict=True)] == [True] * 16
    assert max(networks.batches) <= max_batch
    if max_batch > 1:
        assert sum(size > 1 for size in networks.batches) > 10, "the streams never met in a batch"


def test_what_latest_keeps_is_what_lossless_answers_for_the_same_frames(start):
    # frames that were dropped have left no trace: a stream of the survivors alone gets the same masks
    networks = ColourNetworks(delay_seconds=0.003)
    running = start(networks, max_streams=8)
    scripts = [Script(number) for number in (1, 2, 3, 5)]

    def race(script):
        requests = script.requests * 3
        stream = running.stream(**{**script.options, "delivery": pb.DELIVERY_POLICY_LATEST})
        sent = {stream.send(**request): request for request in requests}
        stream.half_close()
        answers = stream.rest()
        dropped = {seq for answer in answers for seq in answer.dropped.seqs}
        kept = [answer for answer in answers if answer.HasField("result") or answer.HasField("ack")]
        return [request for seq, request in sent.items() if seq not in dropped], kept, len(dropped)

    raced = at_once([lambda script=script: race(script) for script in scripts])
    assert sum(dropped for _, _, dropped in raced) > 10, "nothing was dropped"
    for script, (survivors, kept, _) in zip(scripts, raced, strict=True):
        stream = running.stream(**{**script.options, "delivery": pb.DELIVERY_POLICY_LOSSLESS})
        for request in survivors:
            stream.send(**request)
        stream.half_close()
        *again, _closed = stream.rest()
        assert [masks_of(answer) for answer in again] == [masks_of(answer) for answer in kept]


def masks_of(answer):
    """An answer without what tells of the drops before it."""
    answer.result.seq = answer.result.dropped_since_last = answer.ack.seq = 0
    return answer.SerializeToString(deterministic=True)


def held_together(running, networks, streams):
    """Make the next frames of all these streams ready at once: the engine is held on another stream's frame."""
    plug = running.stream()
    while networks.entered.acquire(blocking=False):
        pass
    networks.gate.clear()
    plug.frame(image=one_colour((9, 9, 9)), prompts=[prompt(1, square(0, 0))])
    assert networks.entered.acquire(timeout=TIMEOUT)
    for stream, options in streams:
        stream.frame(**options)
    eventually(lambda: running.server._service.scheduler.ready_streams >= len(streams))
    del networks.batches[:]
    networks.gate.set()
    plug.receive("result")


def second_answer(stream, first, second):
    """Send the frame that prompts and the one after it; the second answer."""
    for options in (first, second):
        stream.frame(**options)
        result = stream.receive("result")
    return bare(result)


def bare(result):
    """A result without its times, as bytes."""
    result.ClearField("timings")
    return result.SerializeToString(deterministic=True)


@pytest.mark.parametrize("colour", [FAILURE_COLOUR, NAN_COLOUR])
def test_one_sick_stream_in_a_batch_is_no_trouble_to_the_others(start, colour):
    networks = ColourNetworks()
    running = start(networks, max_streams=8, max_batch=8)
    numbers = (1, 2, 3, 4)
    frames = {n: one_colour((40 * n, 200 - 30 * n, 90)) for n in numbers}
    first = {n: {"image": frames[n], "prompts": [prompt(n, square(16 * (n % 3), 16 * n))]} for n in numbers}
    alone = {n: second_answer(running.stream(), first[n], {"image": frames[n]}) for n in (1, 2, 4)}
    streams = {n: running.stream() for n in numbers}
    for n, stream in streams.items():
        stream.frame(**first[n])
        stream.receive("result")
    frames[3] = one_colour(colour)
    held_together(running, networks, [(streams[n], {"image": frames[n]}) for n in numbers])
    for n, expected in alone.items():
        assert bare(streams[n].receive("result")) == expected
    if colour == NAN_COLOUR:
        assert [state.object_id for state in streams[3].receive("result").objects] == [3]
        assert running.sample("memory_writes_skipped_total", reason="not_finite") >= 1
    else:
        with pytest.raises(grpc.RpcError) as caught:
            streams[3].receive()
        assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert max(networks.batches) > 1, "they were not in one batch"


def test_streams_of_different_numbers_of_objects_and_sizes_may_share_a_turn(start):
    networks = ColourNetworks()
    running = start(networks, max_streams=10, max_batch=8)
    waiting, expected = [], []
    for number, (size, objects) in enumerate([((64, 96), 1), ((64, 96), 3), ((96, 64), 2), ((64, 96), 2)], start=1):
        image = {"png": png(blocks(size, 0, random.Random(number)))}
        regions = {10 * number + i: square(16 * i, 16 * i, size=size) for i in range(objects)}
        first = {"image": image, "prompts": [prompt(i, region) for i, region in regions.items()]}
        expected.append(second_answer(running.stream(), first, {"image": image}))
        waiting.append((running.stream(), {"image": image}))
        waiting[-1][0].frame(**first)
        waiting[-1][0].receive("result")
    held_together(running, networks, waiting)
    assert [bare(stream.receive("result")) for stream, _ in waiting] == expected
