"""The journal against a model of servers: whatever breaks when, the last server has been told everything once."""

from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from maskstream.client_journal import Journal, Sent
from maskstream.v1 import maskstream_pb2 as pb


@dataclass
class Model:
    """A server: what its memory has seen, and the prompts that wait for a frame (which no snapshot holds)."""

    memory: list = field(default_factory=list)
    waiting: list = field(default_factory=list)

    def takes(self, request):
        """Its answer."""
        match request.WhichOneof("kind"):
            case "frame" if request.frame.jpeg == b"bad":
                return pb.PropagateResponse(error=pb.FrameError(seq=request.seq, reason="FRAME_UNDECODABLE"))
            case "frame":
                self.memory.append((request.frame.jpeg, tuple(self.waiting)))
                self.waiting.clear()
                answer = "ack" if request.frame.suppress_output else "result"
                body = pb.Ack if request.frame.suppress_output else pb.FrameResult
                return pb.PropagateResponse(**{answer: body(seq=request.seq)})
            case "set_objects":
                self.waiting += [prompt.object_id for prompt in request.set_objects.objects]
                self.waiting += [0] if request.set_objects.HasField("auto") else []
            case "remove_objects":
                (object_id,) = request.remove_objects.object_ids
                if object_id in self.waiting:
                    self.waiting.remove(object_id)
                else:
                    self.memory.append(("removed", object_id))
        return pb.PropagateResponse(ack=pb.Ack(seq=request.seq))


class Client:
    """A journal, the server of the moment, and what is between them."""

    def __init__(self, **kinds):
        self.journal, self.server, self.model = Journal(latest=False, **kinds), Model(), Model()
        self.flying, self.seq, self.made, self.snapshot = [], 0, 0, None
        self.answered = []

    def send(self, **kind):
        self.made += 1
        request = pb.PropagateRequest(**kind)
        self.model.takes(request)
        self._put(Sent(request, index=self.made))

    def frame(self):
        self.send(frame=pb.Frame(jpeg=b"frame %d" % self.made))

    def bad_frame(self):
        self.send(frame=pb.Frame(jpeg=b"bad"))

    def prompt(self):
        self.send(set_objects=pb.SetObjects(objects=[pb.ObjectPrompt(object_id=1 + self.made % 9)]))

    def auto(self):
        self.send(set_objects=pb.SetObjects(auto=pb.AutoPrompt(max_objects=2)))

    def remove(self):
        self.send(remove_objects=pb.RemoveObjects(object_ids=[1 + self.made % 9]))

    def answer(self):
        """The server does the oldest thing."""
        if self.flying:
            seq, sent = self.flying.pop(0)
            sent.request.seq = seq
            (settled,) = self.journal.settle(self.server.takes(sent.request), [seq])
            if not settled.was_told:
                self.answered.append(settled.sent.index)

    def take_snapshot(self):
        """As the client asks for them: never while it catches up."""
        if not self.journal.is_replaying:
            while self.flying:
                self.answer()
            self.snapshot = list(self.server.memory)
            self.journal.take_state(b"a state")

    def lose(self):
        """The server dies; the next one takes the snapshot, or knows what the caller was told, by the last masks."""
        introduce = not self.journal.state
        told = list(self.server.memory) if introduce else self.snapshot
        self.journal.begin_again(introduce=introduce)
        self.server, self.flying = Model([*told]), []
        while self.journal.unsent:
            self._put(self.journal.unsent.popleft())

    def finish(self):
        while self.flying:
            self.answer()

    def _put(self, sent):
        self.seq += 1
        self.flying.append((self.seq, sent))
        self.journal.record(self.seq, sent)


STEPS = (
    "frame",
    "frame",
    "answer",
    "answer",
    "answer",
    "bad_frame",
    "prompt",
    "auto",
    "remove",
    "lose",
    "take_snapshot",
)


@given(st.lists(st.sampled_from(STEPS), max_size=40), st.booleans())
@settings(max_examples=500)
@example(["prompt", "answer", "lose", "frame"], False)
@example(["prompt", "answer", "take_snapshot", "lose", "frame"], True)
@example(["prompt", "remove", "answer", "answer", "lose"], False)
@example(["auto", "answer", "lose", "frame"], False)
@example(["auto", "answer", "take_snapshot", "lose", "frame"], True)
@example(["frame", "take_snapshot", "prompt", "frame", "answer", "lose", "answer", "lose"], True)
def test_the_last_server_knows_everything_once_and_in_order(steps, keeps):
    client = Client(keeps=keeps)
    for step in steps:
        if step != "take_snapshot" or keeps:
            getattr(client, step)()
    client.finish()
    assert client.server.memory == client.model.memory
    assert client.server.waiting == client.model.waiting
    assert client.answered == list(range(1, client.made + 1)), "and the caller has each answer once"


@given(st.lists(st.sampled_from(STEPS), max_size=40))
def test_without_snapshots_no_frame_that_is_answered_is_kept(steps):
    client = Client(keeps=False)
    for step in steps:
        if step != "take_snapshot":
            getattr(client, step)()
        assert not any(sent.answered and sent.is_frame for sent in client.journal._sent)
    client.frame()
    client.finish()
    assert client.journal._sent == []


def test_a_state_that_is_not_kept_up_is_dropped_with_the_first_answer():
    client = Client(keeps=False, state=b"from the caller")
    client.frame()
    assert client.journal.state == b"from the caller"
    client.answer()
    assert client.journal.state == b""


def test_a_frame_on_which_things_are_found_is_kept_for_a_snapshot():
    journal = Journal(latest=True, keeps=True)
    journal.take_state(b"a state")
    found = pb.Frame(jpeg=b"found", prompts=pb.SetObjects(auto=pb.AutoPrompt(max_objects=2)))
    for seq, frame in enumerate((found, pb.Frame(jpeg=b"plain"), pb.Frame(jpeg=b"last")), start=1):
        journal.record(seq, Sent(pb.PropagateRequest(seq=seq, frame=frame)))
        journal.settle(pb.PropagateResponse(result=pb.FrameResult(seq=seq)), [seq])
    journal.begin_again(introduce=False)
    assert [sent.request.frame.jpeg for sent in journal.unsent] == [b"found", b"last"]


def test_a_request_has_no_picture_in_its_repr():
    assert "secret" not in repr(Sent(pb.PropagateRequest(frame=pb.Frame(jpeg=b"secret"))))
