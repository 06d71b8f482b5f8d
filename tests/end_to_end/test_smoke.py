"""The whole chain in a minute or two on two cores: train -> export -> serve -> client, each by its own command.

So few steps teach next to nothing, but enough that the masks are not empty. What is checked is that each stage reads
what the one before it wrote, and that the network gives the same masks whether torch or the exported engine runs it.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from maskstream.moving_shapes import render
from maskstream.pictures import read_id_map, write_id_map
from maskstream.video import VideoWriter

FRAMES, SIZE = 12, (96, 160)
STEPS = ("correspondence_stage.steps=60", "mask_stage.steps=150", "mask_stage.learning_rate=0.005")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run(module: str, *arguments: object) -> str:
    """Standard output of `python -m module arguments`."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with clip.mp4 and prompt.png, the id map of its first frame."""
    folder = tmp_path_factory.mktemp("clip")
    rendered = render(FRAMES, SIZE)
    with VideoWriter(folder / "clip.mp4", 12.0) as video:
        for frame in rendered.frames:
            video.write(frame)
    write_id_map(folder / "prompt.png", rendered.id_maps[0])
    return folder


@pytest.fixture(scope="module")
def checkpoint(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("train") / "run"
    changes = [word for step in STEPS for word in ("--set", step)]
    run("train", "--recipe", "tiny", "--data", clip / "clip.mp4", "--out", out, "--seed", 3, "--threads", 1, *changes)
    return out / "checkpoint.pt"


@pytest.fixture(scope="module")
def artifact(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "artifact"
    run("export", checkpoint, "--out", out)
    return out


def test_a_client_gets_masks_from_a_server_of_what_was_just_trained(artifact: Path, tmp_path: Path) -> None:
    report_file = tmp_path / "demo.json"
    run("maskstream.cli", "demo", "--artifact", artifact, "--frames", FRAMES, "--out", tmp_path, "--json", report_file)
    report = json.loads(report_file.read_text())
    assert report["frames"] == FRAMES
    assert 0 <= report["scores"]["jf"] <= 100
    assert {"queue", "decode", "encode_frame", "segment", "encode_mask", "total"} <= report["stages"].keys()
    assert len(list((tmp_path / "masks").glob("*.png"))) == FRAMES


def test_torch_and_the_exported_engine_agree(clip: Path, checkpoint: Path, artifact: Path, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    (dataset / "JPEGImages/480p").mkdir(parents=True)
    (dataset / "JPEGImages/480p/clip.mp4").symlink_to(clip / "clip.mp4")
    for index, id_map in enumerate(render(FRAMES, SIZE).id_maps):
        write_id_map(dataset / f"Annotations/480p/clip/{index:05d}.png", id_map)
    reports, masks = {}, {}
    for name, way in {"torch": ("--checkpoint", checkpoint), "engine": ("--artifact", artifact)}.items():
        out, report_file = tmp_path / name, tmp_path / f"{name}.json"
        run("maskstream.cli", "evaluate", dataset, *way, "--out", out, "--json", report_file)
        reports[name] = json.loads(report_file.read_text())
        masks[name] = np.stack([read_id_map(path) for path in sorted((out / "clip").glob("*.png"))])
    assert len(masks["torch"]) == FRAMES
    assert np.mean(masks["torch"] == masks["engine"]) > 0.99
    for part in ("mean", "coarse"):
        assert reports["torch"][part]["jf"] > 5, "nothing is followed at all"
        assert reports["engine"][part]["jf"] == pytest.approx(reports["torch"][part]["jf"], abs=1)
