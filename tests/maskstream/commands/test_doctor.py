"""`maskstream doctor`: what it prints, its JSON and exit status, over findings made for the test."""

import json
from pathlib import Path

import pytest

from maskstream import cli
from maskstream.commands import doctor
from maskstream.doctor.findings import FAILED, MISSING, OK, Finding

SOUND = [
    Finding("software", "Python", OK, "3.12"),
    Finding("engines", "onnxruntime", OK, "fp32, 12 ms"),
    Finding("model", "shipped weights", OK, "whole"),
    Finding("video", "decoders", OK, "h264"),
    Finding("extras", "[web]", MISSING, "no starlette", 'the page: pip install "maskstream[web]"'),
]


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    findings = list(SOUND)
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    monkeypatch.setattr("maskstream.report.provenance", dict)
    return findings


def test_verdict_comes_first_and_advice_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["maskstream track would work here", "maskstream-serve would work here"]
    assert lines[-1] == '  [web]: the page: pip install "maskstream[web]"'
    assert "engines   ok       onnxruntime      fp32, 12 ms" in lines


def test_status_tells_when_it_would_not_work(found: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    found[1] = Finding("engines", "onnxruntime", FAILED, "illegal instruction")
    assert cli.main(["doctor", "--quiet"]) == 1
    assert capsys.readouterr() == ("", "")


def test_json_on_standard_output_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json", "-"]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["verdict"] == {"track": True, "serve": True, "reasons": []}
    assert report["findings"][4]["advice"] == 'the page: pip install "maskstream[web]"'
    assert "would work here" in printed.err


def test_json_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json", str(tmp_path / "doctor.json"), "--quiet"]) == 0
    assert len(json.loads((tmp_path / "doctor.json").read_text())["findings"]) == len(SOUND)
    assert capsys.readouterr().out == ""
