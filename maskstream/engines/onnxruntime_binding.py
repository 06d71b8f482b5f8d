"""A graph with its inputs and outputs bound: buffers on the device, made once for each set of shapes and used again.

Without binding ONNX Runtime allocates on the device, copies and frees at every call. On the CPU there is nothing to
gain; it runs there all the same, so that tests can compare it with an ordinary run.
"""

import numpy as np

from maskstream.engines.onnxruntime_library import onnxruntime
from maskstream.engines.shape_cache import Inputs, ShapeCache
from maskstream.networks import F32

SHAPES_KEPT = 8  # of each graph


class BoundGraph:
    """A session that runs bound. Not thread-safe: calls of the same shapes share their buffers."""

    def __init__(self, session: onnxruntime.InferenceSession, device: str, kept: int = SHAPES_KEPT) -> None:
        """`device` is "cuda" or "cpu"; `kept` sets of shapes have buffers at once."""
        self._bindings = ShapeCache(kept, lambda inputs: _Binding(session, device, inputs))

    def run(self, inputs: Inputs) -> list[F32]:
        """Outputs in the graph's order, in arrays of their own."""
        return self._bindings.of(inputs).run(inputs)


class _Binding:
    """Buffers for one set of shapes. Outputs are allocated by the first run, which finds out their shapes."""

    def __init__(self, session: onnxruntime.InferenceSession, device: str, inputs: Inputs) -> None:
        self._session, self._binding = session, session.io_binding()
        self._outputs = [output.name for output in session.get_outputs()]
        self._kept = False
        self._inputs = {}
        for name, array in inputs.items():
            value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype, device, 0)
            self._binding.bind_ortvalue_input(name, value)
            self._inputs[name] = value
        for name in self._outputs:
            self._binding.bind_output(name, device)

    def run(self, inputs: Inputs) -> list[F32]:
        for name, value in self._inputs.items():
            value.update_inplace(np.ascontiguousarray(inputs[name]))
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        if not self._kept:
            for name, value in zip(self._outputs, self._binding.get_outputs(), strict=True):
                self._binding.bind_ortvalue_output(name, value)
            self._kept = True
        answers: list[F32] = self._binding.copy_outputs_to_cpu()
        return answers
