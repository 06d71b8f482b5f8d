"""The examples in other languages, built and run against a real server: they see what the Python client sees.

What they are built with is not installed with maskstream. Where it is missing the test is skipped and says what to
install; a build that fails is a failure.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from served import jpeg, picture

from maskstream.client import BoxPrompt, MaskStreamClient
from maskstream.pictures import read_id_map, read_picture

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
BOX = (28, 12, 40, 40)
FRAMES = 7  # more than may be in flight


@pytest.fixture
def frames(tmp_path):
    """A folder with a thing in the box, and a file that is no picture."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(FRAMES):
        frame = picture(colour=(10, 10, 10))
        frame[16:48, 32:64] = (250, 200, 20 + index)
        (folder / f"{index:05d}.jpg").write_bytes(jpeg(frame))
    (folder / "notes.txt").write_text("not a frame")
    return folder


def known_id_maps(target, folder, image="png"):
    """What the Python client is answered for the same box and pictures; as PNG they arrive as they lie there."""
    pictures = [read_picture(path) for path in sorted(folder.glob("*.jpg"))]
    with MaskStreamClient(target) as client, client.open(image=image) as stream:
        return [answer.id_map for answer in stream.propagate(pictures, {0: [BoxPrompt(1, BOX)]})]


def run(command, cwd=EXAMPLES, **more):
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=150, check=False, **more)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def agree(running, folder, program, masks):
    """The printed areas and the written masks are those of the Python client."""
    known = known_id_maps(running.server.listen, folder)
    assert all(np.count_nonzero(id_map == 1) > 400 for id_map in known), "the thing in the box is followed"
    box = ",".join(map(str, BOX))
    printed = run([*program, running.server.listen, folder, box, masks]).splitlines()
    assert printed == [f"{i:05d}.jpg 1:{np.count_nonzero(id_map == 1)}" for i, id_map in enumerate(known)]
    for index, id_map in enumerate(known):
        written = cv2.imread(str(masks / f"{index:05d}.pgm"), cv2.IMREAD_UNCHANGED)
        assert (written == id_map).all()


def refused(running, folder, program):
    """What a server says of a stream is said, and the program fails."""
    for target, words in ((running.server.listen, ""), ("127.0.0.1:1", "connect")):
        where = folder if target.endswith(":1") else folder / "nowhere"
        command = [*map(str, program), target, str(where), "1,1,9,9"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert words in done.stderr
        assert done.stderr


@pytest.fixture
def typescript(tmp_path):
    """The command of the TypeScript example, generated, compiled and type-checked."""
    modules = EXAMPLES / "typescript/node_modules"
    if shutil.which("npm") is None or not modules.exists():
        pytest.skip("needs Node 20 and its packages: npm ci --prefix examples/typescript")
    folder = tmp_path / "examples/typescript"
    folder.mkdir(parents=True)
    for name in ("follow.ts", "package.json", "tsconfig.json"):
        shutil.copy(EXAMPLES / "typescript" / name, folder)
    (folder / "node_modules").symlink_to(modules)
    (tmp_path / "protos").symlink_to(ROOT / "protos")
    run(["npm", "run", "--silent", "build"], cwd=folder)
    return ["node", folder / "dist/follow.js"]


@pytest.fixture
def cpp(tmp_path):
    """The command of the C++ example, generated and compiled."""
    tools = ("g++", "make", "protoc", "grpc_cpp_plugin", "pkg-config")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing or subprocess.run(["pkg-config", "--exists", "grpc++", "protobuf"], check=False).returncode:
        pytest.skip("needs g++, make, pkg-config, libgrpc++-dev, libprotobuf-dev, protobuf-compiler-grpc")
    run(["make", "-j2", "CXXFLAGS=-O0 -Werror", f"BUILD={tmp_path / 'build'}"], cwd=EXAMPLES / "cpp")
    return [tmp_path / "build/follow"]


@pytest.mark.slow
def test_typescript(running, frames, typescript, tmp_path):
    agree(running, frames, typescript, tmp_path / "masks")
    refused(running, frames, typescript)


@pytest.mark.slow
def test_cpp(running, frames, cpp, tmp_path):
    agree(running, frames, cpp, tmp_path / "masks")
    refused(running, frames, cpp)


def test_python(running, frames, tmp_path):
    known = known_id_maps(running.server.listen, frames, "jpeg")
    command = [sys.executable, EXAMPLES / "python/follow.py", running.server.listen, frames, "28,12,40,40"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = run([*command, tmp_path / "masks"], env=environment).splitlines()
    assert printed == [f"{i} 1:{np.count_nonzero(id_map == 1)}" for i, id_map in enumerate(known)]
    for index, id_map in enumerate(known):
        assert (read_id_map(tmp_path / f"masks/{index:05d}.png") == id_map).all()
