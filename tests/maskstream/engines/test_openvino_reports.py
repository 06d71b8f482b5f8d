"""openvino reports its use to its maker when it is imported; through maskstream it must not."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, threading
import maskstream.engines.openvino_networks
print([name for name in sys.modules if name.startswith("openvino_telemetry.")], threading.active_count())
"""


def test_importing_the_openvino_engine_reports_to_nobody(tmp_path: Path) -> None:
    pytest.importorskip("openvino_telemetry")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["[]", "1"]
    assert list(tmp_path.iterdir()) == [], "something was left in the user's home"
