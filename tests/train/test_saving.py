"""A file is there whole, or the one before it is."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from train.saving import SaveFailed, write_whole

SMALL_DISK = """
import resource, sys
from pathlib import Path
import torch
from train.saving import SaveFailed, write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    write_whole(Path(sys.argv[1]), lambda path: torch.save(torch.zeros(2**20), path))
except SaveFailed as error:
    print(error)
"""


def full_disk(path: Path) -> None:
    path.write_text("half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def torch_on_a_full_disk(path: Path) -> None:
    path.write_text("half")
    raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos\nand more lines")


@pytest.mark.parametrize("write", [full_disk, torch_on_a_full_disk])
def test_the_file_before_stays_when_the_new_one_fails(tmp_path: Path, write: Callable[[Path], None]) -> None:
    target = tmp_path / "state.pt"
    write_whole(target, lambda path: path.write_text("first") and None)
    with pytest.raises(SaveFailed, match=rf"cannot write {target} \(.*\); free space in {tmp_path} and continue"):
        write_whole(target, write)
    assert target.read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupted_write_leaves_nothing_half_done(tmp_path: Path) -> None:
    def interrupted(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "state.pt", interrupted)
    assert list(tmp_path.iterdir()) == []


def test_torch_saving_to_a_disk_that_is_really_too_small(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SMALL_DISK, str(tmp_path / "state.pt")], capture_output=True, text=True, check=True
    )
    assert "cannot write" in done.stdout
    assert list(tmp_path.iterdir()) == []
