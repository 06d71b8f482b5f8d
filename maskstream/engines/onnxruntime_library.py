"""ONNX Runtime, with its reports to its maker off: a server beside cameras talks to nobody it was not told to talk to.

Since 1.29 its Linux packages write a device id into the home folder and send names, hashes and timings of the models
they run. The variable is read once, when the library is loaded, so all imports of it go through here. Whoever wants
the reports sets ORT_DISABLE_TELEMETRY=0.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime"]
