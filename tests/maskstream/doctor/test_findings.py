"""The examination as a whole: it never raises, and its verdict follows from what was found."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from maskstream.doctor import examination
from maskstream.doctor.examination import examine, verdict
from maskstream.doctor.findings import FAILED, MISSING, OK, Finding, checked, install

SOUND = (
    Finding("software", "Python", OK, "3.12"),
    Finding("model", "shipped weights", OK, "whole"),
    Finding("video", "decoders", OK, "h264"),
    Finding("engines", "onnxruntime", OK, "fp32"),
    Finding("extras", "[serve]", OK, ""),
)


def but(area: str, name: str, state: str) -> list[Finding]:
    """SOUND with one finding in another state."""
    return [
        Finding(one.area, one.name, state if (one.area, one.name) == (area, name) else one.state, one.detail)
        for one in SOUND
    ]


def test_a_sound_machine() -> None:
    found = verdict(SOUND)
    assert (found.track, found.serve, found.reasons) == (True, True, ())
    assert "NOT" not in found.text


@pytest.mark.parametrize(
    ("area", "name"),
    [
        ("software", "Python"),
        ("model", "shipped weights"),
        ("video", "decoders"),
        ("engines", "onnxruntime"),
    ],
)
def test_nothing_works_without_the_essentials(area: str, name: str) -> None:
    found = verdict(but(area, name, FAILED))
    assert (found.track, found.serve) == (False, False)
    assert len(found.reasons) == 1
    assert found.text.count("would NOT work") == 2


def test_a_missing_extra_closes_the_server_alone() -> None:
    found = verdict(but("extras", "[serve]", MISSING))
    assert (found.track, found.serve) == (True, False)
    assert '[serve]"' in found.reasons[0]


def test_one_engine_that_runs_is_enough() -> None:
    assert verdict([*SOUND, Finding("engines", "openvino", FAILED, "illegal instruction")]).track


def test_a_check_that_raises_is_a_finding() -> None:
    def broken() -> Sequence[Finding]:
        raise PermissionError("no /proc here")

    (finding,) = checked("machine", broken)
    assert (finding.area, finding.state) == ("machine", FAILED)
    assert "PermissionError: no /proc here" in finding.detail
    found = examine([("video", broken), ("model", lambda: SOUND[1:2])])
    assert [one.state for one in found] == [FAILED, OK]
    assert "decoders: could not be checked" in verdict(found).reasons


def test_every_check_is_named_after_what_it_finds() -> None:
    quick = [(area, check) for area, check in examination.CHECKS if area != "engines"]
    for area, check in quick:
        assert {finding.area for finding in checked(area, check)} == {area}


def test_install_from_a_checkout_or_by_name(tmp_path: Path) -> None:
    assert install("gpu", tmp_path) == 'pip install "maskstream[gpu]"'
    (tmp_path / "pyproject.toml").touch()
    assert install("gpu", tmp_path) == 'pip install ".[gpu]"'
