"""Streams used in every order a client can think of, against a model small enough to be believed.

The model knows what each request must be answered with: it plays the requests that were not dropped, one after the
other. Hypothesis looks for a sequence that the server answers otherwise, and shortens what it finds.
"""

import itertools
import threading
from dataclasses import dataclass, field

import grpc
import pytest
from hostile import THOROUGH, ColourNetworks, one_colour
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from served import eventually, id_map_of, prompt, square

from maskstream.v1 import maskstream_pb2 as pb
from serve.config import Limits

MOST_OBJECTS, MOST_STREAMS = 4, 4
PATIENCE = 5.0  # seconds; reached by no test that passes
SIZES = ((64, 96), (32, 32))
IMAGES = {size: one_colour((90, 160, 40), size) for size in SIZES}
IDS = st.sets(st.integers(1, 6), min_size=1, max_size=3)
WAITING_IDS = st.sets(st.integers(1, MOST_OBJECTS), min_size=1, max_size=3)  # never more than the stream may have


@dataclass
class Sent:
    """A request and what must be known to foretell its answer."""

    seq: int
    kind: str
    ids: frozenset = frozenset()
    size: tuple = SIZES[0]
    fault: str = ""  # the reason it must be refused with, whatever the state
    suppressed: bool = False


@dataclass
class Foreseen:
    """The state a stream must be in."""

    known: set = field(default_factory=set)
    pending: dict = field(default_factory=dict)  # id -> size of its region
    size: tuple | None = None

    def answer(self, sent: Sent):
        """(kind, what it says) of the answer; the state moves on."""
        if sent.fault:
            return "error", sent.fault
        return getattr(self, f"_{sent.kind}")(sent)

    def _frame(self, sent):
        prompts = {**self.pending, **dict.fromkeys(sent.ids, sent.size)}
        self.pending = {}
        together = self.known | set(prompts)
        if self.size not in (None, sent.size):
            return "error", "SIZE_CHANGED"
        if any(size != sent.size for size in prompts.values()) or len(together) > MOST_OBJECTS:
            return "error", "INVALID_PROMPT"
        if not together:
            return "error", "NO_OBJECTS"
        self.known, self.size = together, sent.size
        return ("ack", None) if sent.suppressed else ("result", frozenset(together))

    def _set(self, sent):
        self.pending |= dict.fromkeys(sent.ids, sent.size)
        return "ack", None

    def _remove(self, sent):
        if not sent.ids <= self.known | set(self.pending):
            return "error", "INVALID_PROMPT"
        self.known -= sent.ids
        self.pending = {i: size for i, size in self.pending.items() if i not in sent.ids}
        return "ack", None

    def _reset(self, sent):
        self.known, self.pending, self.size = set(), {}, None
        return "ack", None


class Client:
    """One stream, what was sent on it, and a thread that collects what comes."""

    def __init__(self, running, delivery, max_in_flight, credit):
        self.latest = delivery == pb.DELIVERY_POLICY_LATEST
        self.granted = credit or None
        output = pb.OutputOptions(per_object_stats=True)
        self.stream = running.stream(
            delivery=delivery, max_in_flight=max_in_flight, initial_credit=credit, output=output
        )
        self.sent: list[Sent] = []
        self.answers: list = []
        self.drained = True
        self.problem = None
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self):
        results = 0
        try:
            for answer in self.stream.rpc:
                results += answer.HasField("result")
                if self.granted is not None and results > self.granted:
                    self.problem = f"result {results} came with a credit of {self.granted}"
                self.answers.append(answer)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.CANCELLED:
                self.problem = error

    def send(self, kind, ids=(), size=SIZES[0], fault="", suppressed=False, **body):
        seq = self.stream.send(**body)
        self.sent.append(Sent(seq, kind, frozenset(ids), size, fault, suppressed))

    def settle(self):
        """Wait until every request has its answer, or has been dropped."""
        if self.granted is not None:
            self.grant(1000)
        wanted = sum(sent.kind != "credit" for sent in self.sent)

        def all_told():
            answers = list(self.answers)
            told = sum(len(a.dropped.seqs) if a.HasField("dropped") else 1 for a in answers)
            return told >= wanted or self.problem

        eventually(all_told, PATIENCE)
        self.check()

    def grant(self, results):
        if self.granted is None:  # it was not asked for in Open
            self.send("nothing", fault="UNIMPLEMENTED", credit=pb.Credit(results=results))
        else:
            self.granted += results
            self.send("credit", credit=pb.Credit(results=results))

    def end(self, how):
        if self.granted is not None:
            self.grant(1000)
        if how == "half-close":
            self.stream.half_close()
        else:
            self.drained = how == "close"
            self.stream.send(close=pb.Close(drain=self.drained))
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the stream does not end"
        closed = self.answers.pop().closed
        self.check()
        frames = sum(sent.kind == "frame" for sent in self.sent)
        assert closed.frames_in == frames == closed.frames_answered + closed.frames_dropped + closed.frames_refused

    def check(self):
        """Play the requests that were not dropped; each must have been answered as foreseen, once, in order."""
        assert self.problem is None, self.problem
        dropped = [seq for answer in self.answers for seq in answer.dropped.seqs]
        assert len(dropped) == len(set(dropped)), "a frame was dropped twice"
        told = [said(answer) for answer in self.answers if not answer.HasField("dropped")]
        if not self.drained:  # who leaves without waiting is told what became of each frame, and no more
            frames = sorted(sent.seq for sent in self.sent if sent.kind == "frame")
            assert sorted({seq for seq, _, _ in told} & set(frames)) == sorted(set(frames) - set(dropped))
            assert len(told) == len({seq for seq, _, _ in told}), "a request was answered twice"
            return
        foreseen, expected = Foreseen(), []
        for sent in self.sent:
            if sent.seq in dropped:
                assert sent.kind == "frame", f"{sent} must not be dropped"
                assert not sent.ids, f"{sent} must not be dropped"
            elif sent.kind != "credit":
                expected.append((sent.seq, *foreseen.answer(sent)))
        assert told == expected


def said(answer):
    """(seq, kind, what it says)."""
    kind = answer.WhichOneof("kind")
    body = getattr(answer, kind)
    if kind == "result":
        ids = frozenset(state.object_id for state in body.objects)
        assert set(id_map_of(body).ravel().tolist()) <= ids | {0}, "a pixel of an object that is not followed"
        return body.seq, kind, ids
    return body.seq, kind, body.reason if kind == "error" else None


class AnyOrder(RuleBasedStateMachine):
    """A few streams of one server, and everything that can be asked of them."""

    running = None  # set by the test
    streams = Bundle("streams")

    def __init__(self):
        super().__init__()
        self.open = []

    @rule(
        target=streams,
        delivery=st.sampled_from((pb.DELIVERY_POLICY_LOSSLESS, pb.DELIVERY_POLICY_LATEST)),
        max_in_flight=st.integers(1, 8),
        credit=st.sampled_from((0, 0, 1, 3)),
    )
    def open_stream(self, delivery, max_in_flight, credit):
        if len(self.open) == MOST_STREAMS:
            refused = self.running.stream(opened=False)
            refused.send(open=pb.Open())
            with pytest.raises(grpc.RpcError) as caught:
                refused.receive()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            return multiple()
        eventually(lambda: self.running.server._service.admission.active == len(self.open))
        self.open.append(Client(self.running, delivery, max_in_flight, credit))
        return self.open[-1]

    @rule(client=streams, many=st.integers(1, 6), suppressed=st.booleans())
    def frames(self, client, many, suppressed):
        for _ in range(many):
            frame = pb.Frame(**IMAGES[SIZES[0]], suppress_output=suppressed)
            client.send("frame", suppressed=suppressed, frame=frame)

    @rule(client=streams, ids=IDS, size=st.sampled_from(SIZES))
    def prompted_frame(self, client, ids, size):
        frame = pb.Frame(**IMAGES[size], prompts=regions(ids, size))
        client.send("frame", ids, size, frame=frame)

    @rule(client=streams, ids=WAITING_IDS, size=st.sampled_from(SIZES))
    def set_objects(self, client, ids, size):
        client.send("set", ids, size, set_objects=regions(ids, size))

    @rule(client=streams, ids=IDS)
    def remove(self, client, ids):
        client.send("remove", ids, remove_objects=pb.RemoveObjects(object_ids=sorted(ids)))

    @rule(client=streams)
    def reset(self, client):
        client.send("reset", reset=pb.Reset())

    @rule(client=streams)
    def snapshot(self, client):
        client.send("snapshot", fault="SNAPSHOTS_OFF", snapshot=pb.Snapshot())

    @rule(client=streams, results=st.integers(0, 5))
    def credit(self, client, results):
        client.grant(results)

    @rule(client=streams, ids=IDS)
    def undecodable_frame(self, client, ids):
        frame = pb.Frame(png=b"\x89PNG no more", prompts=regions(ids, SIZES[0]))
        client.send("frame", ids, fault="FRAME_UNDECODABLE", frame=frame)

    @rule(client=streams)
    def frame_without_a_picture(self, client):
        client.send("frame", {1}, fault="INVALID_FRAME", frame=pb.Frame())

    @rule(client=streams, ids=IDS)
    def prompts_that_no_frame_can_have(self, client, ids):
        bad = regions(ids, SIZES[0])
        bad.objects[-1].mask.width += 1
        client.send("set", fault="INVALID_PROMPT", set_objects=bad)
        client.send("frame", ids, fault="INVALID_PROMPT", frame=pb.Frame(**IMAGES[SIZES[0]], prompts=bad))

    @rule(client=streams)
    def nothing(self, client):
        client.send("nothing", fault="UNIMPLEMENTED")

    @rule(client=streams)
    def settle(self, client):
        client.settle()

    @rule(client=consumes(streams), how=st.sampled_from(("half-close", "close", "close without drain")))
    def end(self, client, how):
        self.open.remove(client)
        client.end(how)

    @rule(client=consumes(streams))
    def cancel(self, client):
        client.stream.rpc.cancel()
        self.open.remove(client)

    @invariant()
    def no_stream_has_broken(self):
        assert [client.problem for client in self.open] == [None] * len(self.open)

    def teardown(self):
        left, self.open = self.open, []
        try:
            for client in left:
                client.end("half-close")
        finally:
            for client in left:
                client.stream.rpc.cancel()
        service = self.running.server._service
        eventually(lambda: service.admission.active == 0)
        assert service.pool.used_bytes == 0
        assert not service.streams


def regions(ids, size):
    places = itertools.product(range(0, size[0], 16), range(0, size[1], 16))
    at = dict(zip(range(1, 7), itertools.cycle(places), strict=False))
    return pb.SetObjects(objects=[prompt(i, square(*at[i], size=size)) for i in sorted(ids)])


@pytest.mark.slow
@pytest.mark.timeout(3600 if THOROUGH else 180)
def test_streams_answer_as_foreseen_whatever_the_order(start):
    limits = Limits(max_objects=MOST_OBJECTS, max_prompts_per_second=0)
    running = start(ColourNetworks(0.0005), max_streams=MOST_STREAMS, limits=limits)
    AnyOrder.running = running
    bounds = settings(
        max_examples=1500 if THOROUGH else 30,
        stateful_step_count=60 if THOROUGH else 40,
        deadline=None,
        derandomize=not THOROUGH,
        database=None,
        phases=(Phase.generate, Phase.shrink) if THOROUGH else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(AnyOrder, settings=bounds)


def test_the_engine_goes_on_when_the_answer_it_waited_for_has_been_fetched(start):
    networks = ColourNetworks()
    running = start(networks)
    stream = running.stream(delivery=pb.DELIVERY_POLICY_LATEST, max_in_flight=1)
    stream.frame(prompts=[prompt(1, square(16, 16))])
    stream.receive("result")
    while networks.entered.acquire(blocking=False):
        pass
    networks.gate.clear()
    busy = stream.frame()
    assert networks.entered.acquire(timeout=PATIENCE)
    last = stream.frame()  # nothing comes after it that would wake the engine
    session = next(iter(running.server._service.streams.values()))
    eventually(lambda: bool(session.queue._ready))
    networks.gate.set()
    assert [stream.receive("result").seq, stream.receive("result").seq] == [busy, last]


def test_a_refused_removal_changes_nothing(running):
    stream = running.stream()
    stream.send(set_objects=regions({3}, SIZES[0]))
    assert stream.receive("ack").seq == stream.seq
    stream.send(remove_objects=pb.RemoveObjects(object_ids=[3, 9]))
    assert stream.receive("error").reason == "INVALID_PROMPT"  # there is no object 9
    stream.frame()
    assert [state.object_id for state in stream.receive("result").objects] == [3]


def test_close_without_drain_accounts_for_frames_that_were_refused(start):
    networks = ColourNetworks()
    running = start(networks)
    stream = running.stream(max_in_flight=8)
    networks.gate.clear()
    stream.frame(prompts=[prompt(1, square(16, 16))])
    assert networks.entered.acquire(timeout=PATIENCE)
    stream.send(frame=pb.Frame())  # has no picture: it waits with its error for its place in the order
    stream.send(close=pb.Close(drain=False))
    session = next(iter(running.server._service.streams.values()))
    eventually(lambda: session.counts.received == 2)
    networks.gate.set()
    closed = stream.rest()[-1].closed
    assert closed.frames_in == 2 == closed.frames_answered + closed.frames_dropped + closed.frames_refused
