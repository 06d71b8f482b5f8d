"""The image, as it was built last: not root, nothing to write to, follows an object, says that it is well, drains.

Building it takes minutes and a base, so that is left to `make image`; without docker or without the image these are
skipped. It must run as an orchestrator would run it: read-only, without capabilities, with a /tmp of its own.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

IMAGE = "maskstream:cpu"
MOST_BYTES = 900 * 2**20
READY_SECONDS = 240
LOCKED = ["--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"]


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def inspected(kind: str, name: str) -> Any:
    return json.loads(docker(kind, "inspect", name))[0]


@pytest.fixture(scope="module")
def image() -> dict[str, Any]:
    if shutil.which("docker") is None:
        pytest.skip("the image is not tried: there is no docker")
    if subprocess.run(["docker", "info"], capture_output=True, timeout=60, check=False).returncode:
        pytest.skip("the image is not tried: no docker daemon answers")
    found = subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False)
    if found.returncode:
        pytest.skip(f"the image is not tried: there is no {IMAGE}; make image")
    return dict(json.loads(found.stdout)[0])


@pytest.fixture(scope="module")
def container(image: dict[str, Any]) -> Iterator[str]:
    """Name of a running server that is ready; it has no network but its own."""
    ports = ["--listen", "0.0.0.0:50051", "--http", "0.0.0.0:9464"]
    name = docker("run", "--detach", *LOCKED, IMAGE, *ports, "--engine", "onnxruntime:int8")
    try:
        until = time.monotonic() + READY_SECONDS
        while "ready listen=" not in docker("logs", name):
            assert inspected("container", name)["State"]["Running"], docker("logs", name)
            assert time.monotonic() < until, docker("logs", name)
            time.sleep(0.5)
        yield name
    finally:
        docker("rm", "--force", name)


def run_inside(name: str, program: str) -> str:
    return docker("exec", name, "python", "-c", program)


def test_it_is_small_and_not_root(image: dict[str, Any]) -> None:
    assert image["Size"] < MOST_BYTES
    assert image["Config"]["User"] == "10001:10001"
    assert image["Config"]["StopSignal"] == "SIGTERM"
    assert set(image["Config"]["ExposedPorts"]) == {"50051/tcp", "9464/tcp"}


FOLLOW = """
import numpy as np
from maskstream.client import BoxPrompt, MaskStreamClient
frame = np.full((96, 128, 3), 40, np.uint8)
frame[30:60, 40:80] = (220, 60, 30)
with MaskStreamClient("127.0.0.1:50051") as client, client.open() as stream:
    for answer in stream.propagate([frame] * 4, {0: [BoxPrompt(1, (40, 30, 40, 30))]}):
        print(answer.index, (answer.id_map[30:60, 40:80] == 1).mean() > 0.8)
"""


def test_it_follows_an_object(container: str) -> None:
    assert run_inside(container, FOLLOW).split() == ["0", "True", "1", "True", "2", "True", "3", "True"]


def test_there_is_nothing_to_write_to_and_nothing_to_build_with(container: str) -> None:
    ids = run_inside(container, "import os; print(os.getuid(), os.getgid())")
    assert ids == "10001 10001"
    write = "import pathlib\nfor p in ('/opt/maskstream/x', '/x', '/home/x'):\n try: pathlib.Path(p).write_text('')\n"
    write += " except OSError as e: print(type(e).__name__)"
    assert len(run_inside(container, write).splitlines()) == 3
    absent = "import importlib.util as u; print([m for m in ('torch', 'pip', 'onnx') if u.find_spec(m)])"
    assert run_inside(container, absent) == "[]"


def test_its_health_check_is_green(container: str) -> None:
    until = time.monotonic() + 60
    while (health := inspected("container", container)["State"]["Health"]["Status"]) != "healthy":
        assert time.monotonic() < until, health
        time.sleep(0.5)


def test_stopping_it_ends_it_well(container: str) -> None:
    docker("stop", "--time=20", container)
    assert inspected("container", container)["State"]["ExitCode"] == 0
