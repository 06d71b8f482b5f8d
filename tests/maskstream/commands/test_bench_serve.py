"""`maskstream bench serve` from its arguments to its report, on a server program with fake networks."""

import argparse
import contextlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from process_server import PROGRAM
from served import Running, Start

from maskstream import cli
from maskstream.commands import bench_serve, bench_serve_modes, own_program
from maskstream.commands.bench_serve_modes import Bench
from maskstream.load.load_run import LoadOutcome

TESTS = Path(__file__).resolve().parents[2]
SMALL = ["--size", "64x96", "--duration", "0.6", "--warm-up", "0.2"]


@pytest.fixture
def fake_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command starts for a server has fake networks."""
    program = PROGRAM.format(delay_seconds=0.01, seconds_per_object=0.0)
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setattr(own_program, "command", lambda _, *flags: [sys.executable, "-c", program, *flags])


def test_a_sweep_is_printed_written_and_drawn(fake_server: None, tmp_path: Path, capsys) -> None:
    pytest.importorskip("matplotlib")
    files = ["--json", str(tmp_path / "load.json"), "--plot", str(tmp_path / "load.png")]
    words = ["bench", "serve", *SMALL, "--streams", "2", "--loads", "0.5,2", "--max-batch", "1"]
    assert cli.main([*words, *files]) == 0
    report = json.loads((tmp_path / "load.json").read_text())
    assert {"versions", "hardware", "git_revision", "server", "capacity_fps", "loads"} == set(report)
    half, twice = report["loads"]
    capacity, after = report["capacity_fps"]["2"]
    assert after > 0
    assert half["load"] == 0.5
    assert twice["offered_fps"] == pytest.approx(2 * capacity, rel=0.01)
    assert half["frames"]["lost"] == twice["frames"]["lost"] == 0
    assert twice["drop_share"] > half["drop_share"]
    assert half["memory"]["start_mib"] > 10
    assert half["cpu"]["server_seconds"] > 0
    assert half["metrics_agree"] is twice["metrics_agree"] is True
    assert report["server"]["settings"]["max_batch"] == 1
    printed = capsys.readouterr().out
    assert "0.50x" in printed
    assert "its own counts and its /metrics agree" in printed
    assert (tmp_path / "load.png").stat().st_size > 10_000


def test_a_server_of_somebody_else_is_loaded(running: Running, tmp_path: Path) -> None:
    where = ["--server", running.server.listen, "--http", running.server.http, "--json", str(tmp_path / "l.json")]
    words = ["bench", "serve", *SMALL, *where, "--streams", "1,2", "--fps", "20", "--delivery", "lossless"]
    assert cli.main([*words, "--hostile", "garbage"]) == 0
    report = json.loads((tmp_path / "l.json").read_text())
    assert [load["streams"] for load in report["loads"]] == [1, 2]
    assert [load["offered_fps"] for load in report["loads"]] == [20.0, 40.0]
    assert report["capacity_fps"] == {}
    assert report["loads"][0]["hostile"]["garbage"]["streams"] >= 1
    assert report["server"]["engine"] == "fake"


def test_a_lost_frame_makes_the_exit_status_1(running: Running, monkeypatch, capsys) -> None:
    real = bench_serve_modes.run_load

    def lose_one(*arguments: object) -> LoadOutcome:
        outcome = real(*arguments)
        outcome.records[0].frames[3].end("lost", "ENDED")
        return outcome

    monkeypatch.setattr(bench_serve_modes, "run_load", lose_one)
    assert cli.main(["bench", "serve", *SMALL, "--server", running.server.listen, "--streams", "1", "--fps", "20"]) == 1
    assert "LOST: 1 frames" in capsys.readouterr().out


def test_ctrl_c_reports_the_loads_that_are_through(start: Start, monkeypatch, tmp_path: Path, capsys) -> None:
    real, done = bench_serve_modes.run_load, []

    def interrupted(*arguments: object) -> LoadOutcome:
        if done:
            raise KeyboardInterrupt
        done.append(real(*arguments))
        return done[0]

    monkeypatch.setattr(bench_serve_modes, "run_load", interrupted)
    words = ["bench", "serve", *SMALL, "--server", start().server.listen, "--streams", "1,2", "--fps", "20"]
    assert cli.main([*words, "--json", str(tmp_path / "l.json")]) == 130
    assert len(json.loads((tmp_path / "l.json").read_text())["loads"]) == 1
    assert "stopped early" in capsys.readouterr().out


def test_sigterm_and_its_verdict(fake_server: None, tmp_path: Path, capsys) -> None:
    words = ["bench", "serve", *SMALL, "--sigterm", "--streams", "2", "--json", str(tmp_path / "s.json")]
    assert cli.main(words) == 0
    report = json.loads((tmp_path / "s.json").read_text())["sigterm"]
    assert report["clean"]
    printed = capsys.readouterr().out
    assert f"sent {report['frames']['sent']} = answered {report['frames']['answered']} + reported 0 + lost 0" in printed


def test_a_soak_prints_memory_and_steps(fake_server: None, tmp_path: Path, capsys) -> None:
    words = ["bench", "serve", "--size", "64x96", "--soak", "0.05", "--fps", "20", "--json", str(tmp_path / "s.json")]
    assert cli.main(words) == 0
    report = json.loads((tmp_path / "s.json").read_text())["soak"]
    assert report["lost"] == 0
    printed = capsys.readouterr().out
    assert "memory after warm-up" in printed
    assert "step of the lossless stream" in printed


def test_the_overhead_is_printed(monkeypatch, capsys, tmp_path: Path) -> None:
    figures = {"tracker_fps": 20.0, "served_fps": 19.0, "fps_ratio": 0.95, "tracker_p50_ms": 50.0}
    figures |= {"latency_p50_ms": 52.0, "added_p50_ms": 2.0, "around_p50_ms": 2.5}
    report = {"rounds": [figures], **figures, "undisturbed": {"fps_ratio": 0.97, "added_ms": 1.5}}
    monkeypatch.setattr(bench_serve_modes, "compare", lambda *arguments: report)
    monkeypatch.setattr(bench_serve_modes, "bare_tracker", lambda *arguments: contextlib.nullcontext())
    own = SimpleNamespace(settings={"short_side": 480}, engine="onnxruntime")
    bench = Bench(None, {"model": "m", "engine": "e", "precision": "p"}, bench_serve.Load(), None, own, own)
    assert bench_serve_modes.against_tracker(bench, 1, tmp_path / "o.json") == 0
    printed = capsys.readouterr().out
    assert "0.950 of the bare tracker's frames/s (undisturbed 0.970)" in printed
    assert "+2.00 ms p50 against a step of the bare tracker (undisturbed +1.50 ms)" in printed
    assert "2.50 ms p50" in printed


def test_a_server_that_is_not_there_is_one_line(capsys) -> None:
    assert cli.main(["bench", "serve", *SMALL, "--server", "127.0.0.1:1", "--fps", "5"]) == 2
    assert capsys.readouterr().err.startswith("maskstream: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sigterm", "--server", "localhost:1"], "need a server of their own"),
        (["--against-tracker", "--server", "localhost:1"], "need a server of their own"),
        (["--server", "a:1,b:2"], "name one HOST:PORT"),
        (["--delivery", "lossless", "--max-frame-age", "1"], "--delivery latest"),
        (["--objects", "300"], "1 to 255"),
        (["--plot", "x.pdf"], ".png or .svg"),
    ],
)
def test_what_does_not_go_together_is_said(words: list[str], said: str, capsys) -> None:
    assert cli.main(["bench", "serve", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--hostile", "rude"], ["--fps", "0"], ["--loads", "1,x"], ["--soak", "-1"], ["--soak", "1", "--sigterm"]]
)
def test_words_that_are_none_are_refused(words: list[str], capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["bench", "serve", *words])
    assert words[0] in capsys.readouterr().err


def test_help_shows_examples_and_bench_alone_is_as_before(capsys) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["bench", "serve", "--help"])
    assert "  maskstream bench serve " in capsys.readouterr().out
    parser = argparse.ArgumentParser()
    bench_serve.add_arguments(parser)
    assert parser.parse_args([]).loads == list(bench_serve.LOADS)
    assert cli.build_parser().parse_args(["bench", "--streams", "1,4"]).streams == [1, 4]
