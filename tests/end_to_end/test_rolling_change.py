"""A new model without a restart, on the real program: a link to the artifact moves, SIGHUP, and new streams get it.

Both artifacts hold the same graphs and differ in their version, so that the masks before and after can be compared.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from served import TIMEOUT, eventually

from maskstream.artifact import Artifact, seal
from maskstream.client import FrameAnswer, MaskStreamClient, Prompt
from maskstream.moving_shapes import render
from maskstream.tracker import Frame

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FRAMES = 12
CONFIG = (
    "engine = 'onnxruntime'\nthreads = 1\nbank_mib = 256\nwarm_up_height = 96\nwarm_up_width = 160\nmax_batch = 1\n"
)


@dataclass
class Program:
    """A running maskstream-serve whose artifact is the link `current`."""

    process: "subprocess.Popen[bytes]"
    folder: Path
    listen: str
    http: str

    def point_at(self, artifact: Path) -> None:
        """As `ln -sfn` does it, in one step, and then SIGHUP."""
        (self.folder / "next").symlink_to(artifact)
        (self.folder / "next").replace(self.folder / "current")
        self.process.send_signal(signal.SIGHUP)

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text()

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=TIMEOUT) as answer:
            text: str = answer.read().decode()
            return text


@pytest.fixture(scope="module")
def artifacts(small_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same model twice, with two versions."""
    other = tmp_path_factory.mktemp("newer") / "model"
    shutil.copytree(small_artifact, other)
    (other / "release").write_text("two\n")
    seal(other, Artifact.load(small_artifact).spec, Artifact.load(small_artifact).manifest)
    return small_artifact, other


@pytest.fixture
def program(artifacts: tuple[Path, Path], tmp_path: Path) -> Iterator[Program]:
    (tmp_path / "current").symlink_to(artifacts[0])
    (tmp_path / "serve.toml").write_text(CONFIG)
    announce = tmp_path / "server.json"
    command = [sys.executable, "-m", "serve", "--artifact", str(tmp_path / "current"), "--announce", str(announce)]
    command += ["--config", str(tmp_path / "serve.toml"), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    with (tmp_path / "server.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            eventually(lambda: announce.exists() or process.poll() is not None, seconds=120)
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            facts = json.loads(announce.read_text())
            yield Program(process, tmp_path, facts["listen"], facts["http"])
        finally:
            process.kill()


class Viewer:
    """A stream on a thread that goes through the clip again and again until it is told to stop."""

    def __init__(self, client: MaskStreamClient) -> None:
        self.clip = render(FRAMES, (96, 160), num_objects=1)
        self.stop, self.answers = threading.Event(), list[FrameAnswer]()
        self._thread = threading.Thread(target=self._run, args=(client,))
        self._thread.start()

    def _frames(self) -> Iterator[Frame]:
        while not self.stop.is_set():
            yield from self.clip.frames

    def _run(self, client: MaskStreamClient) -> None:
        with client.open(image="png") as stream:
            self.answers.extend(stream.propagate(self._frames(), {0: [Prompt(1, self.clip.id_maps[0] == 1)]}))

    def sees(self, more: int) -> None:
        """Wait for so many answers more."""
        wanted = len(self.answers) + more
        eventually(lambda: len(self.answers) >= wanted)

    def finish(self) -> None:
        self.stop.set()
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()


def masks(answers: list[FrameAnswer]) -> list[np.ndarray]:
    return [answer.id_map for answer in answers if answer.id_map is not None]


def test_new_streams_get_the_new_model_while_an_open_one_goes_on(
    program: Program, artifacts: tuple[Path, Path]
) -> None:
    old, new = (Artifact.load(folder).version for folder in artifacts)
    assert old != new
    with MaskStreamClient(program.listen) as client:
        assert client.info().model_version == old
        viewer = Viewer(client)
        try:
            viewer.sees(FRAMES)
            program.point_at(artifacts[1])
            eventually(lambda: client.info().model_version == new)
            viewer.sees(FRAMES)
            later = Viewer(client)
            later.sees(FRAMES)
            later.finish()
        finally:
            viewer.finish()
        assert [answer.index for answer in viewer.answers] == list(range(len(viewer.answers)))
        assert all(answer.error is None for answer in viewer.answers + later.answers)
        # The same graphs: a stream that begins on the new model sees what the first one saw, to the pixel.
        pairs = zip(masks(viewer.answers)[:FRAMES], masks(later.answers)[:FRAMES], strict=True)
        assert all(np.array_equal(*pair) for pair in pairs)
        assert any(mask.any() for mask in masks(later.answers))
    assert f'model_version="{new}"' in program.metrics()
    program.process.terminate()
    assert program.process.wait(TIMEOUT) == 0


def test_a_model_that_cannot_be_loaded_changes_nothing(
    program: Program, artifacts: tuple[Path, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(artifacts[1], broken)
    graph = next(iter(Artifact.load(broken).graphs.values()))
    os.truncate(graph, 100)
    before = Artifact.load(artifacts[0]).version
    with MaskStreamClient(program.listen) as client:
        viewer = Viewer(client)
        try:
            viewer.sees(2)
            program.point_at(broken)
            eventually(lambda: "the model stays as it was" in program.log)
            assert graph.name in program.log, "the log names the file at fault"
            assert client.info().model_version == before
            viewer.sees(FRAMES)
            program.point_at(artifacts[1])
            eventually(lambda: client.info().model_version != before)
        finally:
            viewer.finish()
        assert all(answer.error is None for answer in viewer.answers)
