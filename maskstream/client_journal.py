"""What a stream has sent and another server would have to be told, so that a break leaves no gap.

Without a snapshot that is what has no answer yet, after an introduction: each object on the frame where it was last
seen. With one it is the snapshot and everything since, whose answers the caller has had already and which is therefore
sent again without output. Memory is bounded by what may be in flight, one frame an object, and what a snapshot needs:
`is_heavy` asks for a newer one.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from maskstream.client_messages import id_map_at_size, prompts_message, without_prompts
from maskstream.tracker import Prompt
from maskstream.v1 import maskstream_pb2 as pb

MOST_KEPT_FRAMES, MOST_KEPT_BYTES = 256, 64 * 2**20

# The frame errors after which a server still holds the prompts that were to join the frame: it was never decoded.
_UNDECODED = frozenset({"FRAME_UNDECODABLE", "FRAME_TOO_LARGE", "INVALID_FRAME", "OUT_OF_ORDER"})


@dataclass(eq=False)
class Sent:
    """A request on its way, or kept after its answer because another server would need it."""

    request: pb.PropagateRequest = field(repr=False)
    index: int | None = None  # of a frame, as the caller counts
    run: object = None  # the `propagate` it belongs to
    size: tuple[int, int] = (0, 0)  # of a frame: height, width
    told: bool = False  # the caller has its answer, or needs none
    answered: bool = False  # by the present server
    absorbed: bool = False  # prompts outside a frame: one that came later carries them

    @property
    def is_frame(self) -> bool:
        """Whether it is one, and not a control."""
        return self.request.HasField("frame")

    @property
    def prompts(self) -> bool:
        """Whether it is a frame that prompts objects."""
        return bool(_prompted_ids(self.request.frame.prompts))

    @property
    def waits_for_frame(self) -> bool:
        """Whether the server holds its prompts until a frame comes: they are in no mask and no snapshot yet."""
        return self.request.HasField("set_objects") and not self.absorbed

    def again(self) -> "Sent":
        """The same for another call; without output when its answer is known."""
        request = pb.PropagateRequest()
        request.CopyFrom(self.request)
        if self.told and self.is_frame:
            request.frame.suppress_output = True
        return replace(self, request=request, answered=False)


@dataclass(frozen=True)
class Settled:
    """One request that a response answers."""

    seq: int
    sent: Sent | None
    was_told: bool  # it was sent again for the server's sake: its answer is no news


class Journal:
    """Not thread-safe: its owner guards it, but for `remember`, `forget` and `introductions` of the consumer."""

    def __init__(self, *, latest: bool, keeps: bool, state: bytes = b"") -> None:
        """`keeps`: whether what was answered is kept for a snapshot, so that it stays good."""
        self.state = state  # of the newest snapshot; empty: none that is good
        self.unsent: deque[Sent] = deque()
        self.has_grown = False  # since the newest snapshot
        self._latest, self._keeps = latest, keeps
        self._sent: list[Sent] = []  # in order; what is unanswered, and what is kept
        self._unanswered: dict[int, Sent] = {}  # by seq
        self._last_seen: dict[int, tuple[Sent, pb.Mask]] = {}  # by object id, longest ago first

    @property
    def num_unanswered(self) -> int:
        """Requests on their way."""
        return len(self._unanswered)

    @property
    def is_replaying(self) -> bool:
        """Whether the server has not caught up yet with what the caller knows: a snapshot now would lack it."""
        return any(sent.told for sent in (*self._unanswered.values(), *self.unsent))

    @property
    def is_heavy(self) -> bool:
        """Whether what is kept for the snapshot should make way for a newer one."""
        kept = [sent.request.ByteSize() for sent in self._sent if sent.told]
        return len(kept) > MOST_KEPT_FRAMES or sum(kept) > MOST_KEPT_BYTES

    def record(self, seq: int, sent: Sent) -> None:
        """It goes out now."""
        self._unanswered[seq] = sent
        self._sent.append(sent)

    def settle(self, response: pb.PropagateResponse, seqs: Iterable[int]) -> tuple[Settled, ...]:
        """A response came, which answers these requests."""
        return tuple(self._settle(response, seq) for seq in seqs)

    def take_state(self, state: bytes) -> None:
        """A snapshot came: it holds all that is answered, for answers come in order."""
        self.state = b""
        self._prune()
        self.state, self.has_grown = state, False

    def drop_state(self) -> None:
        """No newer snapshot is to be had, and the one that is here must not be kept up for ever."""
        self.take_state(b"")

    def begin_again(self, introduce: bool) -> None:
        """All of it is to be sent to another server, in `unsent`: after the snapshot, or after an introduction."""
        if introduce:
            self.drop_state()
        pending = [sent.again() for sent in _needed([*self._sent, *self.unsent], with_told=not introduce)]
        self.unsent = deque([*(self._introductions() if introduce else ()), *pending])
        self._sent, self._unanswered = [], {}

    # ---- what objects look like: known to the consumer, answer by answer ------------------------------------------

    def remember(self, sent: Sent, result: pb.FrameResult) -> None:
        """Where the objects are on this frame."""
        for stat in result.objects:
            if stat.area:
                self._last_seen.pop(stat.object_id, None)  # to the end: the latest is last
                self._last_seen[stat.object_id] = (sent, result.label_map)

    def forget(self, control: pb.PropagateRequest) -> None:
        """A control was taken: what it removes is not to come back."""
        if control.HasField("reset"):
            self._last_seen.clear()
        for object_id in control.remove_objects.object_ids:
            self._last_seen.pop(object_id, None)

    def _introductions(self) -> Iterator[Sent]:
        """Each frame on which an object was last seen, oldest first, those objects as its prompts, without output."""
        groups: dict[int, list[int]] = {}
        for object_id, (sent, _) in self._last_seen.items():
            groups.setdefault(id(sent), []).append(object_id)
        for object_ids in groups.values():
            sent, label_map = self._last_seen[object_ids[0]]
            id_map = id_map_at_size(label_map, sent.size)
            prompts = [Prompt(i, id_map == i) for i in object_ids if (id_map == i).any()]
            picture = without_prompts(sent.request.frame)
            picture.prompts.CopyFrom(prompts_message(prompts))
            picture.suppress_output = True
            if prompts:
                yield Sent(pb.PropagateRequest(frame=picture), size=sent.size, told=True)

    # ---- settling -------------------------------------------------------------------------------------------------

    def _settle(self, response: pb.PropagateResponse, seq: int) -> Settled:
        sent = self._unanswered.pop(seq, None)
        if sent is None:
            return Settled(seq, None, was_told=False)
        settled = Settled(seq, sent, sent.told)
        sent.told = sent.answered = True
        if sent.is_frame and not (response.HasField("dropped") or response.error.reason in _UNDECODED):
            self._absorb(sent)
        if response.HasField("result") or response.HasField("ack"):
            self.has_grown = True
            self.state = self.state if self._keeps else b""
        else:
            self._sent.remove(sent)  # without effect: to be told to nobody
        self._prune()
        return settled

    def _absorb(self, frame: Sent) -> None:
        for sent in self._sent[: self._sent.index(frame)]:
            sent.absorbed = True

    def _prune(self) -> None:
        if self.state and not self._latest:
            return
        needed = list(_needed(self._sent, with_told=bool(self.state)))
        # Of a live stream's frames without prompts the last is enough.
        plain = [sent for sent in needed if sent.answered and sent.is_frame and not sent.prompts]
        spare = {id(sent) for sent in plain[:-1]}
        kept = {id(sent) for sent in needed} - (spare if self._latest else set())
        self._sent = [sent for sent in self._sent if not sent.answered or id(sent) in kept]


def _needed(entries: Iterable[Sent], with_told: bool) -> Iterator[Sent]:
    """What another server must be told: all with a snapshot, else what the caller has no answer to.

    Prompts that wait for a frame are in neither, nor is what was done to them since.
    """
    waiting: set[int] = set()
    for sent in entries:
        if sent.waits_for_frame:
            waiting.update(_prompted_ids(sent.request.set_objects))
        if with_told or not sent.told or _concerns(sent.request, waiting):
            yield sent


def _concerns(control: pb.PropagateRequest, object_ids: set[int]) -> bool:
    """Whether it prompts or removes any of these objects outside a frame."""
    if control.HasField("reset"):
        return bool(object_ids)
    return not object_ids.isdisjoint([*_prompted_ids(control.set_objects), *control.remove_objects.object_ids])


def _prompted_ids(message: pb.SetObjects) -> list[int]:
    """Ids of the objects it prompts, 0 among them when more are to be found, which no object has."""
    return [*(prompt.object_id for prompt in message.objects), *([0] if message.HasField("auto") else [])]
