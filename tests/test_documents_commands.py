"""Every command that README.md, CONTRIBUTING.md and docs/ show: run here, or parsed with the reason why not run.

What is run goes through the real command line in a folder that holds what the documents talk about, with networks that
copy the last mask, and with a real server where one is named. All uses of our own programs go through their own
parsers. A command that is in neither list fails, and so does a line of the list that no document needs any more.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeNetworks

from maskstream import cli
from maskstream.commands import evaluate, track
from maskstream.moving_shapes import render
from maskstream.pictures import write_id_map, write_jpeg
from maskstream.video import VideoWriter

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
BLOCK = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = {"for", "do", "done", "until", "cat", "EOF", "listen", "http", "max_streams", "threads", "log_format"}
LATER = 40  # the frame of the one prompt that is not for the first
SERVER = "127.0.0.1:50051"

RUN_HERE = (
    r"maskstream track (?!rtsp|dog)",
    r"cat my\.mkv \| maskstream track -",
    r"maskstream evaluate (?!.*--checkpoint)",
    r"maskstream-serve --new-token camera-1$",
    r"python -m timeit ",
)
# What is not run here, and why: it needs what a test has not, or another test runs it, which is named.
NOT_RUN_HERE = {
    r"make ": "installs, builds or tests the whole project; CI runs setup, check and test, and dry runs are below",
    r"pip install ": "installs from an index; that its extras exist is asked below",
    r"pytest ": "a part of the tests themselves, or those that need a GPU; that the files exist is asked below",
    r"maskstream track (rtsp|dog)": "a camera, or servers with certificates: tests/maskstream/test_rtsp_source.py, "
    "tests/maskstream/commands/test_remote.py",
    r"maskstream track-many ": "worker processes and Ray: tests/end_to_end/test_archive.py, "
    "tests/end_to_end/test_archive_ray.py",
    r"maskstream evaluate .*--checkpoint": "needs a training's checkpoint: tests/end_to_end/test_smoke.py",
    r"maskstream bench serve ": "seconds to hours of load: tests/maskstream/commands/test_bench_serve.py",
    r"maskstream bench (?!serve)": "minutes of measuring: tests/maskstream/commands/test_bench.py",
    r"maskstream-serve (?!--new-token)|maskstream-serve$": "runs until it is stopped: tests/process_server.py, "
    "tests/end_to_end/test_smoke.py",
    r"maskstream-train |torchrun ": "minutes to hours: tests/end_to_end/test_smoke.py",
    r"maskstream-export ": "needs a training's checkpoint: tests/end_to_end/test_smoke.py",
    r"python -m train\.ablation ": "hours of training: tests/train/test_ablation.py",
    r"openssl |printf 'subjectAltName|chmod 600|sudo |tail /var|promtool |prometheus |curl |cp -r \$REPO|sed -[in]|rm "
    r"new-token|REPO=|tokens = |\[auth\]|maskstream-serve --new-token camera-1 >": "steps of a guide, with other "
    "programs: tests/serve/test_security.py, tests/deploy/test_nginx.py, tests/deploy/test_prometheus.py, "
    "tests/deploy/test_operations.py; their syntax is asked below",
    r"maskstream doctor": "seconds of trying every engine: tests/maskstream/commands/test_doctor.py",
    r"maskstream completion": "writes outside its folder: tests/maskstream/commands/test_completion.py",
    r"python \$REPO/deploy/grafana/draw_dashboard\.py ": "needs a Prometheus: tests/deploy/test_draw_dashboard.py",
    r"docker ": "needs a container runtime: tests/deploy/test_image.py",
    r"cp -r my_model|ln -sfn|systemctl ": "needs systemd: tests/end_to_end/test_rolling_change.py",
}


def shown() -> list[tuple[str, str]]:
    """(document, command) of every command line; continued lines are one, our programs stand without their folder."""
    found = []
    for document in DOCUMENTS:
        for block in BLOCK.findall(document.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                text = " ".join(re.sub(r"\.venv/bin/", "", line.removeprefix("$ ")).split())
                text = re.sub(r"\s#\s.*", "", text)
                if text and not text.startswith("#") and re.split(r"[\s=]", text)[0] not in SHELL - {"cat"}:
                    found.append((document.name, text))
    return [(name, text) for name, text in dict.fromkeys(found) if not text.startswith("cat >")]


SHOWN = shown()
RUN = [(name, text) for name, text in SHOWN if any(re.match(each, text) for each in RUN_HERE) and " > " not in text]


def reasons_of(text: str) -> list[str]:
    return [pattern for pattern in NOT_RUN_HERE if re.match(pattern, text)]


def test_every_command_is_run_or_has_a_reason_why_not() -> None:
    ran = {text for _, text in RUN}
    assert [f"{name}: {text}" for name, text in SHOWN if text not in ran and not reasons_of(text)] == []


def test_every_reason_is_still_needed() -> None:
    ran = {text for _, text in RUN}
    needed = {pattern for _, text in SHOWN if text not in ran for pattern in reasons_of(text)}
    assert set(NOT_RUN_HERE) - needed == set()


def test_every_pattern_runs_something() -> None:
    assert [each for each in RUN_HERE if not any(re.match(each, text) for _, text in RUN)] == []


def test_tests_named_in_a_reason_exist() -> None:
    named = {path for reason in NOT_RUN_HERE.values() for path in re.findall(r"tests/\S+\.py", reason)}
    assert {path for path in named if not (ROOT / path).exists()} == set()


# ---- parsed --------------------------------------------------------------------------------------------------------


def parsers() -> dict[str, Callable[[Sequence[str]], argparse.Namespace]]:
    """What reads the words of each of our programs, as the program does it."""
    from export import __main__ as export
    from export.compare import parser as compare_parser
    from serve import __main__ as serve
    from train import __main__ as train
    from train.ablation import parser as ablation_parser

    def of_export(words: Sequence[str]) -> argparse.Namespace:
        special = {"verify": export.verify_parser, "compare": compare_parser}.get(words[0])
        return special().parse_args(words[1:]) if special else export.parser().parse_args(words)

    return {
        "maskstream": lambda words: cli.build_parser().parse_args(cli._joined(words)),
        "maskstream-serve": lambda words: serve.build_parser().parse_args(words),
        "maskstream-train": lambda words: train.parser().parse_args(words),
        "maskstream-export": of_export,
        "train.ablation": lambda words: ablation_parser().parse_args(words),
    }


def uses() -> list[tuple[str, str, list[str]]]:
    """(document, program, words) of each use of a program of ours, wherever it stands in its line."""
    programs, found = parsers().keys(), []
    for name, text in SHOWN:
        for part in re.split(r"\s(?:\||&&|&)\s?|\s\d?>\s?\S+", text):
            words = shlex.split(part.replace("$n", "1"))
            at = next((i for i, word in enumerate(words) if word in programs), None)
            if at is not None:
                rest = words[at + 1 :]
                found.append((name, words[at], [*rest, "auto"] if rest[-1:] == ["--engine"] else rest))  # xargs adds it
    return found


@pytest.mark.parametrize("program", sorted(parsers()))
def test_every_use_of_a_program_is_understood_by_its_parser(program: str) -> None:
    parse, wrong = parsers()[program], []
    for name, _, words in [use for use in uses() if use[1] == program]:
        try:
            parse(words)
        except SystemExit as error:
            wrong.append(f"{name}: {program} {' '.join(words)}: {error}")
    assert wrong == []


def test_a_wrong_flag_is_seen() -> None:
    with pytest.raises(SystemExit):
        parsers()["maskstream"](["track", "my.mp4", "--promt", "1,2,3,4"])


def test_blocks_are_whole_shell() -> None:
    blocks = [(path.name, block) for path in DOCUMENTS for block in BLOCK.findall(path.read_text())]
    for name, block in blocks:
        said = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True, check=False)
        assert (name, said.returncode, said.stderr) == (name, 0, "")


def test_make_knows_every_target_shown() -> None:
    for text in {text for _, text in SHOWN if text.startswith("make ")}:
        command = ["make", "--dry-run", *shlex.split(text)[1:]]
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (text, said.returncode) == (text, 0), said.stderr


def test_extras_and_test_files_shown_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for _, text in SHOWN for group in re.findall(r"\.\[([a-z,]+)\]", text) for extra in group.split(",")}
    assert named
    assert named <= set(extras)
    files = {path for _, text in SHOWN for path in re.findall(r"tests/[\w/.]+", text)}
    assert {path for path in files if not (ROOT / path).exists()} == set()


# ---- run -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the commands run here name."""
    folder = tmp_path_factory.mktemp("reader")
    clip = render(LATER + 1, (240, 384))  # as large as the boxes of the quickstart need
    for name, frames in (("my.mp4", 5), ("my.mkv", 5), ("longer.mp4", LATER + 1)):
        with VideoWriter(folder / name, 12.0) as video:
            for frame in clip.frames[:frames]:
                video.write(frame)
    write_id_map(folder / "first_mask.png", clip.id_maps[0])
    small = render(3, (64, 96))
    for name in ("path/to/dataset", "DATASET", "DAVIS"):
        _davis(folder / name, small.frames, small.id_maps)
    _youtube(folder / "YouTubeVOS/valid", small.frames, small.id_maps)
    return folder


def _davis(root: Path, frames: Sequence[np.ndarray], id_maps: Sequence[np.ndarray]) -> None:
    for i, (frame, id_map) in enumerate(zip(frames, id_maps, strict=True)):
        write_jpeg(root / f"JPEGImages/480p/film/{i:05d}.jpg", frame)
        write_id_map(root / f"Annotations/480p/film/{i:05d}.png", id_map)


def _youtube(root: Path, frames: Sequence[np.ndarray], id_maps: Sequence[np.ndarray]) -> None:
    for i, frame in enumerate(frames):
        write_jpeg(root / f"JPEGImages/film/{i:05d}.jpg", frame)
    write_id_map(root / "Annotations/film/00000.png", id_maps[0])
    names = [f"{i:05d}" for i in range(len(frames))]
    objects = {str(i): {"category": "shape", "frames": names} for i in np.unique(id_maps[0]) if i}
    (root / "meta.json").write_text(json.dumps({"videos": {"film": {"objects": objects}}}))


@pytest.mark.parametrize("text", [text for _, text in RUN], ids=lambda text: text[:60])
def test_it_works_as_it_is_written(
    text: str, things: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(things)
    monkeypatch.setattr(track, "networks_from", lambda arguments: FakeNetworks())
    monkeypatch.setattr(evaluate, "networks_from", lambda arguments: FakeNetworks())
    text = text.replace("my.mp4", "longer.mp4") if f" {LATER}:" in text else text
    if SERVER in text:
        text = text.replace(SERVER, request.getfixturevalue("running").server.listen)
    if " | " in text:
        piped, text = text.split(" | ")
        opened = (things / piped.removeprefix("cat ")).open("rb")
        request.addfinalizer(opened.close)
        monkeypatch.setattr(sys, "stdin", opened)
    program, *words = shlex.split(text)
    assert _status(program, words) == 0
    if "--out" in words and program == "maskstream":
        assert any(path.is_file() for path in (things / words[words.index("--out") + 1]).rglob("*"))


def _status(program: str, words: list[str]) -> int:
    if program == "maskstream":
        return cli.main(words)
    if program == "maskstream-serve":
        from serve.__main__ import main

        return main(words)
    assert words[:2] == ["-m", "timeit"]  # once instead of for seconds
    command = [sys.executable, "-m", "timeit", "-n", "1", "-r", "1", *words[2:]]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode
