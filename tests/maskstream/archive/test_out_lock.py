"""One run at a time: the second is refused, and a lock never outlives the process that held it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from maskstream.archive.jobs import ArchiveError
from maskstream.archive.out_lock import LOCK, held

HOLDER = """
import sys, time
from pathlib import Path
from maskstream.archive.out_lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ArchiveError, match=f"another run .process {holder.pid} on "), held(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
    with held(tmp_path):
        assert f"process {holder.pid} " not in (tmp_path / LOCK).read_text()


def test_a_lock_file_that_lies_there_means_nothing(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("process 1 on a machine long gone, and a text longer than ours")
    with held(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith("process ")
        assert "long gone" not in (tmp_path / LOCK).read_text()
    with held(tmp_path):
        pass


def test_the_folder_is_made(tmp_path: Path) -> None:
    with held(tmp_path / "new/out"):
        assert (tmp_path / "new/out").is_dir()
