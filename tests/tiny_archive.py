"""A small archive of rendered videos with their prompts, and `maskstream track-many` as a program over it.

The videos are 64x96, at which the shipped networks take some 20 ms a frame: real workers, in seconds.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from maskstream.moving_shapes import render
from maskstream.pictures import write_id_map
from maskstream.video import VideoWriter

ENGINE = "onnxruntime:int8"
SIZE = (64, 96)
FRAMES = 4
LONG = 26  # frames: time enough to be killed in


def write_video(root: Path, name: str, frames: int = FRAMES, seed: int = 0, prompt: bool = True) -> None:
    """root/videos/NAME.mp4 and the mask of its first frame, root/prompts/NAME.png."""
    clip = render(frames, SIZE, seed=seed, num_objects=2)
    with VideoWriter(root / "videos" / f"{name}.mp4", 12.0) as video:
        for frame in clip.frames:
            video.write(frame)
    if prompt:
        write_id_map(root / "prompts" / f"{name}.png", clip.id_maps[0])


def ten_videos(root: Path) -> None:
    """Seven good ones, of which good0 is long and one is in a folder; `corrupt`, `empty`, and `unprompted`."""
    for number in range(6):
        write_video(root, f"good{number}", LONG if number == 0 else FRAMES, seed=number)
    write_video(root, "deep/down/good6", seed=6)
    write_video(root, "unprompted", prompt=False)
    whole = (root / "videos/good0.mp4").read_bytes()
    (root / "videos/corrupt.mp4").write_bytes(whole[:40] + b"\0" * (len(whole) - 40))
    (root / "videos/empty.mp4").write_bytes(b"")
    for name in ("corrupt", "empty"):
        (root / f"prompts/{name}.png").write_bytes((root / "prompts/good0.png").read_bytes())


def words(root: Path, out: str = "out", *more: str) -> list[str]:
    """Arguments of the command over `root`."""
    places = [str(root / "videos"), "--prompts", str(root / "prompts"), "--out", str(root / out)]
    return [*places, "--engine", ENGINE, "--threads", "1", *more]


def start(arguments: Sequence[str], strict: bool = True) -> subprocess.Popen[str]:
    """The command in a process, and a process group, of its own, as a shell starts it. `strict`: no warning passes."""
    return subprocess.Popen(
        [sys.executable, *(["-W", "error"] if strict else []), "-m", "maskstream.cli", "track-many", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def until(found: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something to become true; it fails after so long."""
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def workers_at(out: Path, lines: int = 2) -> dict[int, Path]:
    """Process ids of workers of this machine and the scratch folders where they have written so many frames."""
    found = {}
    for log in (out / ".scratch").glob("*/objects.jsonl"):
        if log.read_bytes().count(b"\n") >= lines:
            found |= dict.fromkeys(_who_has_open(log), log.parent)
    return found


def masks_under(out: Path) -> dict[str, bytes]:
    """Bytes of every mask of finished videos by its path under `out`."""
    files = sorted(path for path in out.rglob("masks/*.png") if ".scratch" not in path.parts)
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def _who_has_open(file: Path) -> list[int]:
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink() == file:
                found.append(int(link.parts[2]))
        except OSError:  # processes and files come and go
            continue
    return found
