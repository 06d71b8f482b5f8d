"""Ranges of activations: what the layers of the float32 graphs see while the real tracker runs over real frames.

An observed graph has more outputs than it is asked for; those are measured and let go frame by frame, so that memory
does not grow with the number of frames. A range is the mean over frames of a high
quantile: one bright pixel in one frame must not cost all others a bit. The figures behind that are in docs/export.md.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, TensorProto

from export.int8.quantise import Range, observed_tensors
from export.int8.trial_networks import Run, open_session
from maskstream.networks import F32

_SAMPLES = 50_000  # values of a tensor that its quantiles are taken of


@dataclass(frozen=True)
class RangeSettings:
    """`quantile` of the values is kept inside the range, as much cut off below as above; 1 keeps all."""

    quantile: float = 0.9999


class Ranges:
    """Least and largest values of named tensors, over all calls."""

    def __init__(self, settings: RangeSettings | None = None) -> None:
        self._settings = settings or RangeSettings()
        self._seen: dict[str, list[tuple[float, float]]] = {}

    def add(self, name: str, values: npt.NDArray[Any]) -> None:
        """One more look at a tensor; an empty one says nothing."""
        flat = np.asarray(values, np.float32).ravel()
        if not flat.size:
            return
        if self._settings.quantile >= 1:
            low, high = flat.min(), flat.max()
        else:
            low, high = _quantiles(flat[:: max(1, flat.size // _SAMPLES)], self._settings.quantile)
        self._seen.setdefault(name, []).append((float(low), float(high)))

    def of(self, name: str) -> Range:
        """The range, which holds 0, as a padded convolution needs it exactly. Raises KeyError if it was never seen."""
        lows, highs = np.asarray(self._seen[name]).T
        pick = (lows.min(), highs.max()) if self._settings.quantile >= 1 else (lows.mean(), highs.mean())
        return min(0.0, float(pick[0])), max(0.0, float(pick[1]))

    def all(self) -> dict[str, Range]:
        """Every tensor's range by its name."""
        return {name: self.of(name) for name in self._seen}


def observed_run(model: ModelProto, ranges: Ranges) -> Run:
    """A folded graph on ONNX Runtime; what its layers see is added to `ranges`."""
    names, own = observed_tensors(model), [output.name for output in model.graph.output]
    ports = {*own, *(port.name for port in model.graph.input)}
    extra = [name for name in names if name not in ports]
    made = ModelProto()
    made.CopyFrom(model)
    for name in extra:
        made.graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = open_session(made)

    def run(inputs: dict[str, Any]) -> list[F32]:
        answers: list[F32] = session.run([*own, *extra], inputs)
        found = {**inputs, **dict(zip([*own, *extra], answers, strict=True))}
        for name in names:
            ranges.add(name, found[name])
        return answers[: len(own)]

    return run


def _quantiles(values: F32, inside: float) -> tuple[float, float]:
    outside = (1 - inside) / 2
    low, high = np.quantile(values, (outside, 1 - outside))
    return float(low), float(high)
