"""The page's messages, to and from protobuf: text is JSON; binary is a length, a JSON header, and a payload.

    4 bytes little-endian length N | N bytes JSON | payload: a picture on the way in, label runs on the way out

A request is translated field by field and then judged by the service like any other client's. Only what has no place
in protobuf at all is refused here.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from maskstream import wire
from maskstream.errors import MaskstreamError
from maskstream.v1 import maskstream_pb2 as pb

MOST_JSON_BYTES = 2 * 2**20  # of a header or a text; a painted mask takes some ten thousand
_LENGTH_BYTES = 4
_DELIVERIES = {"latest": pb.DELIVERY_POLICY_LATEST, "lossless": pb.DELIVERY_POLICY_LOSSLESS}
_PICTURES = ("jpeg", "png")
_STAGES = tuple(field.name for field in pb.Timings.DESCRIPTOR.fields if field.name != "batch_size")


class UnreadableMessage(MaskstreamError):
    """What the browser sent is no message of the page's protocol; it ends the stream."""

    reason, code = "BAD_MESSAGE", "INVALID_ARGUMENT"


class MessageTooLarge(UnreadableMessage):
    """The browser sent more at once than the server takes."""

    reason, code = "MESSAGE_TOO_LARGE", "RESOURCE_EXHAUSTED"


# ---- from the browser -----------------------------------------------------------------------------------------------


def parse_open(message: str | bytes) -> tuple[str | None, pb.PropagateRequest]:
    """The token, if there is one, and the first request. Raises UnreadableMessage."""
    fields = _json_of(message) if isinstance(message, str) else {}
    if fields.get("type") != "open":
        raise UnreadableMessage('the first message must be the text {"type": "open", ...}')
    token = fields.get("token")
    if not isinstance(token, str | None):
        raise UnreadableMessage("`token` is a text or null")
    delivery = fields.get("delivery", "lossless")
    if delivery not in _DELIVERIES:
        raise UnreadableMessage('`delivery` is "latest" or "lossless"')
    opening = pb.Open(
        session_id=_text(fields, "session_id"),
        delivery=_DELIVERIES[delivery],
        max_in_flight=_whole(fields.get("max_in_flight", 0), "max_in_flight"),
        output=pb.OutputOptions(per_object_stats=True, timings=True),
    )
    if fields.get("max_frame_age") is not None:
        opening.max_frame_age.CopyFrom(wire.duration(_seconds(fields, "max_frame_age")))
    return token, pb.PropagateRequest(seq=0, open=opening)


def parse_request(message: str | bytes) -> pb.PropagateRequest:
    """A request after the first. Raises UnreadableMessage."""
    if isinstance(message, bytes):
        return _parse_frame(message)
    fields = _json_of(message)
    request = pb.PropagateRequest(seq=_whole(fields.get("seq"), "seq"))
    match fields.get("type"):
        case "set_objects":
            _fill_prompts(request.set_objects, fields.get("objects", []), fields)
        case "remove_objects":
            ids = [_whole(each, "ids") for each in _list(fields.get("ids", []), "ids")]
            request.remove_objects.object_ids.extend(ids)
        case "reset":
            request.reset.SetInParent()
        case "close":
            request.close.drain = fields.get("drain", True) is True
            request.close.SetInParent()
        case kind:
            raise UnreadableMessage(f"{json.dumps(kind)[:40]} is no type of text message after `open`")
    return request


def _parse_frame(message: bytes) -> pb.PropagateRequest:
    length = int.from_bytes(message[:_LENGTH_BYTES], "little")
    if not 0 < length <= len(message) - _LENGTH_BYTES:
        raise UnreadableMessage(f"a header of {length} bytes in a message of {len(message)}")
    start = _LENGTH_BYTES + length
    fields = _json_of(message[_LENGTH_BYTES:start])
    if fields.get("type") != "frame" or fields.get("image") not in _PICTURES:
        raise UnreadableMessage('a binary message is a frame: {"type": "frame", "image": "jpeg" or "png", ...}')
    request = pb.PropagateRequest(seq=_whole(fields.get("seq"), "seq"))
    setattr(request.frame, fields["image"], message[start:])
    if fields.get("pts") is not None:
        request.frame.pts.CopyFrom(wire.duration(_seconds(fields, "pts")))
    if fields.get("capture_time") is not None:
        nanos = round(_seconds(fields, "capture_time") * wire.NANOS)
        request.frame.capture_time.seconds, request.frame.capture_time.nanos = divmod(nanos, wire.NANOS)
    if fields.get("prompts") or fields.get("auto"):
        _fill_prompts(request.frame.prompts, fields.get("prompts") or [], fields)
    return request


def _fill_prompts(target: pb.SetObjects, prompts: Any, fields: dict[str, Any]) -> None:
    target.SetInParent()
    for prompt in _list(prompts, "prompts"):
        if not isinstance(prompt, dict):
            raise UnreadableMessage("a prompt is an object with `id` and `box`, `on` and `off`, or `mask`")
        _fill_prompt(target.objects.add(object_id=_whole(prompt.get("id"), "id")), prompt)
    if fields.get("auto"):
        target.auto.max_objects = _whole(fields["auto"], "auto")


def _fill_prompt(target: pb.ObjectPrompt, prompt: dict[str, Any]) -> None:
    if "box" in prompt:
        x, y, width, height = _numbers(prompt["box"], 4, "box")
        target.box.CopyFrom(pb.BoundingBox(x=x, y=y, width=width, height=height))
    elif "mask" in prompt:
        _fill_mask(target.mask, prompt["mask"])
    elif "on" in prompt or "off" in prompt:
        target.points.SetInParent()
        for kind, points in (("on", target.points.on), ("off", target.points.off)):
            for point in _list(prompt.get(kind, []), kind):
                x, y = _numbers(point, 2, kind)
                points.add(x=x, y=y)


def _fill_mask(target: pb.Mask, mask: Any) -> None:
    """Runs as they are: whether they fill the picture is for the service to say."""
    if not isinstance(mask, dict):
        raise UnreadableMessage("`mask` is an object with width, height, lengths and values")
    target.width, target.height = _whole(mask.get("width"), "width"), _whole(mask.get("height"), "height")
    values, lengths = _list(mask.get("values"), "values"), _list(mask.get("lengths"), "lengths")
    try:
        target.label_runs.values = bytes(values)
        target.label_runs.lengths.extend(lengths)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnreadableMessage("the mask's values are whole numbers 0 to 255, its lengths 0 to 2^32 - 1") from error


def _json_of(message: str | bytes) -> dict[str, Any]:
    if len(message) > MOST_JSON_BYTES:
        raise UnreadableMessage(f"{len(message)} bytes of JSON; at most {MOST_JSON_BYTES}")
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise UnreadableMessage("the message is not JSON") from error
    if not isinstance(fields, dict):
        raise UnreadableMessage("the message is JSON, but no object")
    return fields


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise UnreadableMessage(f"`{name}` is a list")
    return value


def _numbers(value: Any, count: int, name: str) -> list[int]:
    numbers = _list(value, name)
    if len(numbers) != count:
        raise UnreadableMessage(f"`{name}` holds {count} numbers, got {len(numbers)}")
    return [_whole(each, name) for each in numbers]


def _whole(value: Any, name: str) -> int:
    """A number of pixels, an id, a seq: 0 to 2^32 - 1."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32:
        raise UnreadableMessage(f"`{name}` is a whole number, 0 to 2^32 - 1")
    return value


def _seconds(fields: dict[str, Any], name: str) -> float:
    value = fields[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or abs(value) > 1e11:
        raise UnreadableMessage(f"`{name}` is a number of seconds or null")
    return float(value)


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name) or ""
    if not isinstance(value, str) or not value.isascii():
        raise UnreadableMessage(f"`{name}` is a text of ASCII")
    return value


# ---- to the browser -------------------------------------------------------------------------------------------------


def encode(response: pb.PropagateResponse) -> str | bytes | None:
    """An answer as the page reads it; None for one that it does not know."""
    kind = response.WhichOneof("kind")
    if kind == "result":
        return _result(response.result)
    return json.dumps(_TEXTS[kind](getattr(response, kind))) if kind in _TEXTS else None


def ended(code: str, reason: str, message: str, retry_seconds: float | None = None) -> str:
    """The text that goes before the end of a stream that did not end well; `code` is gRPC's name."""
    facts = {"code": code, "reason": reason, "message": message, "retry_seconds": retry_seconds}
    return json.dumps({"type": "ended", **facts})


def server_info(info: pb.GetServerInfoResponse, token_required: bool) -> dict[str, Any]:
    """/v1/info."""
    return {
        "server_version": info.server_version,
        "model": info.model,
        "model_version": info.model_version,
        "engine": info.backend,
        "precision": info.precision,
        "limits": _limits(info.limits),
        "streams": info.active_streams,
        "max_streams": info.max_streams,
        "engine_busy": round(info.engine_busy_ratio, 4),
        "token_required": token_required,
    }


def _opened(opened: pb.Opened) -> dict[str, Any]:
    return {
        "type": "opened",
        "session_id": opened.session_id,
        "model": opened.model,
        "model_version": opened.model_version,
        "max_in_flight": opened.max_in_flight,
        "max_memory_frames": opened.max_memory_frames,
        "memory_every": opened.memory_every,
        "idle_timeout": wire.seconds_of(opened.idle_timeout),
        "limits": _limits(opened.limits),
    }


def _limits(limits: pb.Limits) -> dict[str, int]:
    names = ("max_width", "max_height", "max_objects", "max_message_bytes", "max_in_flight")
    more = ("max_streams_per_client", "max_prompts_per_second")
    return {name: getattr(limits, name) for name in (*names, *more)}


def _result(result: pb.FrameResult) -> bytes:
    runs = result.label_map.label_runs
    header = {
        "type": "result",
        "seq": result.seq,
        "pts": wire.seconds_of(result.pts) if result.HasField("pts") else None,
        "width": result.label_map.width,
        "height": result.label_map.height,
        "runs": len(runs.values),
        "objects": [_object(stat) for stat in result.objects],
        "timings": {name: round(wire.seconds_of(getattr(result.timings, name)), 6) for name in _STAGES},
        "memory_frames": result.memory_frames,
        "dropped_since_last": result.dropped_since_last,
        "batch_size": result.timings.batch_size,
    }
    text = json.dumps(header).encode()
    padding = bytes(-len(runs.values) % 4)  # from here the lengths can be read as numbers of 4 bytes
    lengths = np.array(runs.lengths, "<u4").tobytes()
    return b"".join((len(text).to_bytes(_LENGTH_BYTES, "little"), text, runs.values, padding, lengths))


def _object(stat: pb.ObjectStat) -> dict[str, Any]:
    box = stat.box
    return {
        "id": stat.object_id,
        "score": round(stat.score, 4),
        "area": stat.area,
        "box": [box.x, box.y, box.width, box.height] if stat.HasField("box") else None,
        "visible": round(stat.visible, 4),
        "lost": stat.lost,
    }


def _ack(ack: pb.Ack) -> dict[str, Any]:
    return {"type": "ack", "seq": ack.seq}


def _dropped(dropped: pb.Dropped) -> dict[str, Any]:
    reason = pb.DropReason.Name(dropped.reason).removeprefix("DROP_REASON_")
    return {"type": "dropped", "seqs": list(dropped.seqs), "reason": reason}


def _frame_error(error: pb.FrameError) -> dict[str, Any]:
    return {"type": "frame_error", "seq": error.seq, "reason": error.reason, "message": error.message}


def _draining(draining: pb.Draining) -> dict[str, Any]:
    return {"type": "draining", "seconds": wire.seconds_of(draining.grace)}


def _closed(closed: pb.Closed) -> dict[str, Any]:
    counts = {"answered": closed.frames_answered, "dropped": closed.frames_dropped, "refused": closed.frames_refused}
    return {"type": "closed", **counts}


_TEXTS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "opened": _opened,
    "ack": _ack,
    "dropped": _dropped,
    "error": _frame_error,
    "draining": _draining,
    "closed": _closed,
}
