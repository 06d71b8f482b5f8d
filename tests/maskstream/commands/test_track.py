"""`maskstream track` from the command line, with networks that copy the last mask: files, JSON, errors, Ctrl-C."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cameras import Camera, transport_stream
from fakes import FakeNetworks

from maskstream import cli
from maskstream.commands import track
from maskstream.moving_shapes import RenderedClip, render
from maskstream.pictures import read_id_map, write_id_map
from maskstream.video import VideoWriter, open_source

SIZE = (128, 192)
FRAMES = 6


@pytest.fixture(autouse=True)
def fake_networks(monkeypatch: pytest.MonkeyPatch) -> FakeNetworks:
    networks = FakeNetworks()
    monkeypatch.setattr(track, "networks_from", lambda arguments: networks)
    return networks


@pytest.fixture(scope="module")
def clip() -> RenderedClip:
    return render(FRAMES, SIZE)


@pytest.fixture
def folder(clip: RenderedClip, tmp_path: Path) -> Path:
    """clip.mp4, prompt.png and truth/ of a small clip."""
    with VideoWriter(tmp_path / "clip.mp4", 12.0) as video:
        for frame in clip.frames:
            video.write(frame)
    for index, id_map in enumerate(clip.id_maps):
        write_id_map(tmp_path / "truth" / f"{index:05d}.png", id_map)
    write_id_map(tmp_path / "prompt.png", clip.id_maps[0])
    return tmp_path


def run(folder: Path, *more: str, prompt: str = "prompt.png", source: str = "clip.mp4") -> int:
    words = prompt if "," in prompt else str(folder / prompt)
    return cli.main(["track", str(folder / source), "--prompt", words, "--out", str(folder / "out"), *more])


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "out/objects.jsonl").read_text().splitlines()]


def test_everything_is_written(folder: Path, clip: RenderedClip, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--json", str(folder / "report.json")) == 0
    masks = sorted((folder / "out/masks").iterdir())
    assert [path.name for path in masks] == [f"{index:05d}.png" for index in range(FRAMES)]
    np.testing.assert_array_equal(read_id_map(masks[0]), clip.id_maps[0])
    with open_source(folder / "out/overlay.mp4") as overlay:
        assert (overlay.size, overlay.frames_per_second) == (SIZE, 12.0)
        assert len(list(overlay)) == FRAMES
    assert [line["frame"] for line in lines(folder)] == list(range(FRAMES))
    assert lines(folder)[3]["pts_seconds"] == 0.25
    assert [seen["id"] for seen in lines(folder)[0]["objects"]] == [1, 2, 3]
    assert (folder / "out/sheet.jpg").stat().st_size > 1000
    report = json.loads((folder / "report.json").read_text())
    assert report["scores"] is None
    assert (report["frames"], report["interrupted"]) == (FRAMES, False)
    assert report["fps"] > 0
    assert {"resize", "encode_frame", "segment", "encode_mask", "finish", "total"} == set(report["stages"])
    assert set(report["stages"]["total"]) == {"p50_ms", "p95_ms", "p99_ms"}
    assert all(Path(place).exists() for place in report["outputs"].values())
    assert {"versions", "hardware", "git_revision"} <= set(report)
    assert "p99 ms" in capsys.readouterr().out


def test_truth_gives_scores(folder: Path) -> None:
    assert run(folder, "--truth", str(folder / "truth"), "--json", str(folder / "report.json")) == 0
    scores = json.loads((folder / "report.json").read_text())["scores"]
    assert 30 < scores["jf"] < 100
    assert set(scores["objects"]) == {"1", "2", "3"}


def test_boxes_are_numbered_in_their_order(folder: Path) -> None:
    assert run(folder, "--prompt", "60,30,30,30", prompt="10,10,30,30") == 0
    assert [seen["id"] for seen in lines(folder)[0]["objects"]] == [1, 2]


def test_folder_of_pictures_is_a_source(folder: Path) -> None:
    """Id maps are pictures too, when read as frames."""
    assert run(folder, source="truth") == 0
    assert len(lines(folder)) == FRAMES


def test_ctrl_c_leaves_what_was_done(folder: Path, fake_networks: FakeNetworks) -> None:
    encode_frame, calls = fake_networks.encode_frame, []

    def interrupted(frame):
        calls.append(frame)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return encode_frame(frame)

    fake_networks.encode_frame = interrupted
    assert run(folder, "--json", str(folder / "report.json")) == 130
    with open_source(folder / "out/overlay.mp4") as overlay:
        assert len(list(overlay)) == 3
    assert len(lines(folder)) == len(list((folder / "out/masks").iterdir())) == 3
    report = json.loads((folder / "report.json").read_text())
    assert (report["frames"], report["interrupted"]) == (3, True)


def test_sigterm_is_as_good_as_ctrl_c(folder: Path, fake_networks: FakeNetworks) -> None:
    encode_frame, calls = fake_networks.encode_frame, []

    def stopped(frame):
        calls.append(frame)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGTERM)
        return encode_frame(frame)

    fake_networks.encode_frame = stopped
    before = signal.getsignal(signal.SIGTERM)
    assert run(folder, "--sinks", "coco") == 130
    assert len(json.loads((folder / "out/coco.json").read_text())["images"]) == 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_prompts_of_other_frames_are_given_there(folder: Path) -> None:
    """An empty answer before the first of them, and boxes numbered in their order."""
    assert run(folder, "--prompt", "4:60,30,30,30", prompt="2:10,10,30,30") == 0
    assert [[seen["id"] for seen in line["objects"]] for line in lines(folder)] == [[], [], [1], [1], [1, 2], [1, 2]]
    assert not read_id_map(folder / "out/masks/00001.png").any()


def test_prompt_of_a_frame_that_never_came_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--prompt", "90:10,10,30,30", "--prompt", "99:10,10,30,30") == 0
    assert "no prompt was given on frame 90, 99: the video ended after 6 frames" in capsys.readouterr().out


def follow(folder: Path, *words: str) -> int:
    return cli.main(["track", str(folder / "clip.mp4"), *words])


def test_auto_needs_no_prompt(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever it finds, or does not, by the fakes' colours."""
    status = follow(folder, "--auto", "2", "--out", str(folder / "out"))
    if status == 0:
        assert all(1 <= len(line["objects"]) <= 2 for line in lines(folder))
    else:
        assert "nothing stands out on this frame" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "out"], "nothing to follow: give a --prompt"),
        (["--prompt", "1,1,9,9"], "nowhere to write: give --out DIR, or --json-lines"),
        (["--prompt", "1,1,9,9", "--json", "-", "--json-lines", "-"], "both want standard output"),
    ],
)
def test_flags_that_do_not_fit_together(
    folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert follow(folder, *words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--auto", "0"], ["--auto", "x"], ["--sinks", "gif"], ["--stall-seconds", "-1"]])
def test_values_that_no_flag_takes(folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(folder, *words)
    assert words[0] in capsys.readouterr().err


def test_lines_on_standard_output_stand_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(folder, "--prompt", str(folder / "prompt.png"), "--json-lines", "-") == 0
    printed = capsys.readouterr()
    assert [json.loads(line)["frame"] for line in printed.out.splitlines()] == list(range(FRAMES))
    assert "p99 ms" in printed.err
    assert "track: 6/6 frames" in printed.err
    assert not (folder / "out").exists()


def test_report_on_standard_output_stands_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--json", "-") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["frames"] == FRAMES
    assert "engine fake" in printed.err


def test_quiet_says_nothing_but_errors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--quiet") == 0
    assert tuple(capsys.readouterr()) == ("", "")
    assert len(lines(folder)) == FRAMES
    assert run(folder, "--quiet", source="missing.mp4") == 2
    assert "missing.mp4" in capsys.readouterr().err


def test_sinks_are_chosen_and_named_after_the_video(folder: Path) -> None:
    assert run(folder, "--sinks", "davis,coco", "--json", str(folder / "report.json")) == 0
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["coco.json", "davis"]
    assert len(list((folder / "out/davis/Annotations/480p/clip").iterdir())) == FRAMES
    assert set(json.loads((folder / "report.json").read_text())["outputs"]) == {"davis", "coco"}


@pytest.fixture
def camera() -> Iterator[Camera]:
    camera = Camera((48, 64))
    yield camera
    camera.stop()


def test_camera_that_dies_in_the_middle_and_comes_back(
    camera: Camera, fake_networks: FakeNetworks, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encode_frame, calls = fake_networks.encode_frame, []

    def eventful(frame):
        calls.append(frame)
        if len(calls) == 5:
            camera.stop()
            camera.start()
        if len(calls) == 40:
            raise KeyboardInterrupt
        return encode_frame(frame)

    fake_networks.encode_frame = eventful
    words = [
        "track",
        camera.url("/mjpeg?key=hush", "me:secret@"),
        "--prompt",
        "8,8,32,32",
        "--out",
        str(tmp_path / "o"),
    ]
    assert cli.main([*words, "--json", str(tmp_path / "o/report.json"), "--sinks", "jsonl,overlay,coco,davis"]) == 130
    report = json.loads((tmp_path / "o/report.json").read_text())
    assert report["frames"] == 39
    assert report["losses"] == 1
    rows = [json.loads(line) for line in (tmp_path / "o/objects.jsonl").read_text().splitlines()]
    assert sum(row["dropped"] for row in rows) == report["dropped"]
    assert all(0 <= row["age_seconds"] < 20 for row in rows)
    printed = capsys.readouterr()
    assert printed.err.count("lost (") == printed.err.count("back after") == 1
    written = [path.read_text() for path in tmp_path.rglob("*.json*")] + [str(path) for path in tmp_path.rglob("*")]
    for text in (printed.out, printed.err, *written):
        assert "secret" not in text
        assert "hush" not in text


PIPED = """
import sys
from fakes import FakeNetworks
from maskstream import cli
from maskstream.commands import track
track.networks_from = lambda arguments: FakeNetworks()
sys.exit(cli.main(sys.argv[1:]))
"""


def test_video_from_a_pipe_to_a_pipe(folder: Path) -> None:
    words = [sys.executable, "-c", PIPED, "track", "-", "--prompt", str(folder / "prompt.png"), "--json-lines", "-"]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with (folder / "clip.mp4").open("rb") as clip, subprocess.Popen(["cat"], stdin=clip, stdout=subprocess.PIPE) as cat:
        done = subprocess.run(words, stdin=cat.stdout, capture_output=True, check=False, env=environment)
        cat.stdout.close()
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["frame"] for line in done.stdout.splitlines()] == list(range(FRAMES))


def test_ctrl_c_is_heard_while_the_pipe_is_silent(folder: Path) -> None:
    words = [sys.executable, "-c", PIPED, "track", "-", "--prompt", "8,8,40,40", "--json-lines", "-"]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*words, "--out", str(folder / "out"), "--sinks", "coco"], stdin=pipe, stdout=pipe, stderr=pipe, env=environment
    ) as program:
        program.stdin.write(transport_stream(100, SIZE))
        program.stdin.flush()
        for _ in range(50):
            assert program.stdout.readline()
        program.send_signal(signal.SIGTERM)  # a shell may have its background programs ignore SIGINT
        assert program.wait(timeout=30) == 130
        assert b"Traceback" not in program.stderr.read()
    assert len(json.loads((folder / "out/coco.json").read_text())["images"]) >= 50


@pytest.mark.parametrize(
    ("source", "prompt", "message"),
    [
        ("missing.mp4", "prompt.png", "missing.mp4: no such file"),
        ("empty.mp4", "prompt.png", "empty.mp4: the file is empty"),
        ("text.mp4", "prompt.png", "text.mp4: not a readable video"),
        ("clip.mp4", "small.png", "small.png is 20x10, the video is 192x128"),
        ("clip.mp4", "background.png", "background.png marks no object"),
        ("clip.mp4", "colours.png", "colours.png: a mask file holds object ids, this one holds RGB colours"),
        ("clip.mp4", "nowhere.png", "nowhere.png: cannot be read"),
        ("clip.mp4", "192,0,10,10", "lies outside the 192x128 frame"),
        ("clip.mp4", "5,5,0,10", "has no area"),
    ],
)
def test_bad_input_is_one_clear_line(
    folder: Path, source: str, prompt: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("a film in words\n" * 50)
    write_id_map(folder / "small.png", np.ones((10, 20), dtype=np.uint8))
    write_id_map(folder / "background.png", np.zeros(SIZE, dtype=np.uint8))
    (folder / "colours.png").write_bytes(_rgb_png())
    assert run(folder, source=source, prompt=prompt) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.splitlines()[-1].startswith("maskstream: ")
    assert "Traceback" not in printed


def test_truth_of_another_length_or_size_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "truth/00005.png").unlink()
    assert run(folder, "--truth", str(folder / "truth")) == 2
    assert "--truth holds 5 masks" in capsys.readouterr().err
    write_id_map(folder / "truth/00002.png", np.zeros((9, 9), dtype=np.uint8))
    assert run(folder, "--truth", str(folder / "truth")) == 2
    assert "00002.png is 9x9, the video is 192x128" in capsys.readouterr().err


def test_frame_size_that_changes_mid_stream_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_id_map(folder / "truth/00003.png", np.zeros((40, 50), dtype=np.uint8))
    assert run(folder, source="truth") == 2
    assert "this stream is 192x128, the frame is 50x40" in capsys.readouterr().err
    assert len(lines(folder)) == 3


def test_frame_size_that_changes_before_any_prompt_is_said_too(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_id_map(folder / "truth/00001.png", np.zeros((40, 50), dtype=np.uint8))
    assert run(folder, source="truth", prompt="4:10,10,30,30") == 2
    assert "this stream is 192x128, the frame is 50x40" in capsys.readouterr().err


def test_report_that_cannot_be_written_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--json", "/dev/full") == 2
    assert "maskstream: /dev/full: the disk is full" in capsys.readouterr().err


def _rgb_png() -> bytes:
    import cv2

    return cv2.imencode(".png", np.zeros((*SIZE, 3), dtype=np.uint8))[1].tobytes()
