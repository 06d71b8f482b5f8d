"""`maskstream bench`: what a row measures, that torch is always asked for, and what is said of a missing engine."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import FakeNetworks

from maskstream import cli
from maskstream.commands import bench
from maskstream.commands.bench_row import RowRequest, measure, peak_rss_bytes

COLUMNS = {"engine", "precision", "size", "objects", "streams", "fps", "p50_ms", "p95_ms", "p99_ms", "peak_rss_bytes"}


def test_row_of_two_streams_and_two_objects() -> None:
    row = measure(FakeNetworks(delay_seconds=0.002), RowRequest("", "fake", 96, 128, 2, 2, 6))
    assert set(row) == COLUMNS
    assert (row["engine"], row["size"], row["objects"], row["streams"]) == ("fake", "96x128", 2, 2)
    assert row["p50_ms"] >= 2.0
    assert row["fps"] <= 500.0
    assert row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]


def test_warm_up_is_left_out() -> None:
    networks = FakeNetworks()
    counted = []
    encode_frame = networks.encode_frame
    networks.encode_frame = lambda frame: (counted.append(1), encode_frame(frame))[1]
    measure(networks, RowRequest("", "fake", 96, 128, 1, 3, 5))
    assert len(counted) == 3 * 8 + 5


def test_peak_memory_is_of_the_process_alone() -> None:
    """A child begins with what its parent held in `ru_maxrss`; its row must not."""
    ballast = bytearray(400 * 2**20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    program = "from maskstream.commands.bench_row import peak_rss_bytes; print(peak_rss_bytes())"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(child.stdout) < len(ballast) < peak_rss_bytes()


@pytest.fixture
def rows_by_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[RowRequest]:
    """Rows measured without a process: eager torch is half as fast as others, "absent" cannot run."""
    asked: list[RowRequest] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        request = RowRequest(**json.loads(command[-1]))
        asked.append(request)
        if request.engine == "absent":
            return subprocess.CompletedProcess(command, 2, "", "Warning\nImportError: absent is not installed\n")
        row = {"engine": request.engine, "precision": "fp32", "size": f"{request.height}x{request.width}"}
        row |= {"objects": request.objects, "streams": request.streams, "p50_ms": 1.0, "p95_ms": 1.0, "p99_ms": 1.0}
        row |= {"fps": 10.0 if request.engine in ("torch", "torch_cuda_eager") else 20.0, "peak_rss_bytes": 2**28}
        return subprocess.CompletedProcess(command, 0, "a line before\n" + json.dumps(row) + "\n", "")

    monkeypatch.setattr(bench, "subprocess", SimpleNamespace(run=run))  # others start programs too: Matplotlib
    monkeypatch.setattr(bench, "artifact_of", lambda arguments: tmp_path)
    monkeypatch.setattr("maskstream.report.provenance", lambda: {"versions": {}, "hardware": {}, "git_revision": None})
    return asked


def test_torch_is_always_measured(rows_by_engine: list[RowRequest], tmp_path: Path, capsys) -> None:
    words = ["bench", "--engine", "fast", "--objects", "1,4", "--streams", "1,2", "--json", str(tmp_path / "b.json")]
    assert cli.main(words) == 0
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert len(rows) == len(rows_by_engine) == 8
    assert set(rows[0]) == COLUMNS
    assert {row["engine"] for row in rows} == {"fast", "torch"}
    assert capsys.readouterr().out.count("2.00x") == 4


def test_a_gpu_is_measured_against_torch_on_a_gpu_in_every_case(
    rows_by_engine: list[RowRequest], tmp_path: Path, capsys
) -> None:
    words = ["bench", "--engine", "torch_cuda,onnxruntime_cuda,tensorrt", "--size", "96x128,64x64"]
    words += ["--objects", "1,4,16", "--streams", "1,8,32", "--json", str(tmp_path / "b.json")]
    assert cli.main(words) == 0
    asked = [request.engine for request in rows_by_engine]
    assert sorted(set(asked)) == ["onnxruntime_cuda", "tensorrt", "torch_cuda", "torch_cuda_eager"]
    assert [asked.count(engine) for engine in set(asked)] == [18] * 4
    cases = {(request.height, request.objects, request.streams) for request in rows_by_engine}
    assert cases == {(h, o, s) for h in (96, 64) for o in (1, 4, 16) for s in (1, 8, 32)}
    table = capsys.readouterr().out
    assert (table.count("2.00x"), table.count("1.00x")) == (3 * 18, 18)


def test_engines_on_both_are_each_measured_against_their_own(rows_by_engine: list[RowRequest], capsys) -> None:
    assert cli.main(["bench", "--engine", "fast,torch_cuda", "--objects", "1", "--streams", "1"]) == 0
    asked = [request.engine for request in rows_by_engine]
    assert asked == ["fast", "torch_cuda", "torch", "torch_cuda_eager"]
    assert capsys.readouterr().out.count("2.00x") == 2


def test_auto_is_measured_against_torch_wherever_it_may_run(rows_by_engine: list[RowRequest], monkeypatch) -> None:
    monkeypatch.setattr("maskstream.engines.auto_candidates", lambda: ("openvino", "onnxruntime_cuda"))
    assert cli.main(["bench", "--objects", "1", "--streams", "1"]) == 0
    assert [request.engine for request in rows_by_engine] == ["auto", "torch", "torch_cuda_eager"]


def test_missing_engine_is_said_once_and_the_rest_measured(rows_by_engine, tmp_path: Path, capsys) -> None:
    words = ["bench", "--engine", "absent", "--objects", "1", "--streams", "1,2", "--json", str(tmp_path / "b.json")]
    assert cli.main(words) == 0
    assert "no row of absent: ImportError: absent is not installed" in capsys.readouterr().out
    report = json.loads((tmp_path / "b.json").read_text())
    assert [row["engine"] for row in report["rows"]] == ["torch", "torch"]
    assert report["missing"] == {"absent": "ImportError: absent is not installed"}
    assert [request.engine for request in rows_by_engine].count("absent") == 1


def test_nothing_measured_is_an_error(rows_by_engine, monkeypatch, capsys) -> None:
    monkeypatch.setattr(bench, "TORCH", "absent")
    assert cli.main(["bench", "--engine", "absent"]) == 2
    assert "no engine could be measured" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["--size", "480"], ["--size", "480x0"], ["--size", "480x854,480"], ["--objects", "1,x"], ["--streams", "0"]],
)
def test_numbers_that_are_none_are_refused(words: list[str], capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["bench", *words])
    assert words[1].rpartition(",")[2] in capsys.readouterr().err


def test_size_is_height_by_width() -> None:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    assert parser.parse_args(["--size", "240x432"]).size == [(240, 432)]
    assert parser.parse_args(["--size", "480x854,1080x1920"]).size == [(480, 854), (1080, 1920)]


def test_quiet_with_json_and_plot(rows_by_engine, tmp_path: Path, capsys) -> None:
    words = ["bench", "--engine", "fast", "--objects", "1", "--streams", "1", "--plot", str(tmp_path / "speed.png")]
    assert cli.main([*words, "--quiet", "--json", "-"]) == 0
    printed = capsys.readouterr()
    assert [row["engine"] for row in json.loads(printed.out)["rows"]] == ["fast", "torch"]
    assert printed.err == ""
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_that_cannot_be_drawn_is_said_before_anything_is_measured(rows_by_engine, capsys) -> None:
    assert cli.main(["bench", "--plot", "speed.pdf"]) == 2
    assert ".png or .svg" in capsys.readouterr().err
    assert rows_by_engine == []
