"""ONNX Runtime sends nothing home and leaves nothing there, whichever of our modules loads it first."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).absolute().parents[3]
GRAPH = ROOT / "maskstream/weights/live_r18/encode_mask.onnx"
RUN = """
import importlib, os, sys
importlib.import_module(sys.argv[1])
import onnxruntime
onnxruntime.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""
FIRST = ["maskstream.engines.onnxruntime_networks", "maskstream.engines.onnxruntime_binding", "export.int8.quantise"]


@pytest.mark.parametrize("module", FIRST)
def test_no_device_id_is_written_and_nothing_is_sent(tmp_path: Path, module: str) -> None:
    quiet = {"CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS"}  # each would hide what we left undone
    environment = {name: value for name, value in os.environ.items() if name not in quiet}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "XDG_DATA_HOME": str(tmp_path / "data")}
    command = [sys.executable, "-c", RUN, module, str(GRAPH)]
    done = subprocess.run(command, env=environment | home, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_it_is_loaded_by_one_module_alone() -> None:
    found = set()
    for folder in ("maskstream", "serve", "export", "train"):
        for path in (ROOT / folder).rglob("*.py"):
            if re.search(r"^\s*(import onnxruntime|from onnxruntime import)\b", path.read_text(), re.MULTILINE):
                found.add(path.name)
    assert found == {"onnxruntime_library.py"}
