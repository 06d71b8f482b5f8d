"""What is said of the processor and of the libraries decides what may be kept from one run to the next."""

from importlib.metadata import version
from pathlib import Path

import pytest

from maskstream import provenance

TWO_CORES = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Some Xeon @ 2.50GHz
flags\t\t: fpu avx2 amx_int8 fpu

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd bf16\n"


@pytest.mark.parametrize(
    ("text", "model", "flags"),
    [
        (TWO_CORES, "Some Xeon @ 2.50GHz", ("amx_int8", "avx2", "fpu")),
        (ARM, None, ("asimd", "bf16", "fp")),
        ("", None, ()),
        (None, None, ()),
    ],
    ids=["x86", "arm", "empty", "no such file"],
)
def test_a_processor_is_told_by_its_name_and_by_what_it_can_do(
    text: str | None, model: str | None, flags: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(provenance, "_CPUINFO", tmp_path / "cpuinfo")
    assert provenance.cpu_flags() == flags
    assert provenance.cpu_model() == model or (model is None and provenance.cpu_model())


def test_versions_are_of_what_is_installed() -> None:
    assert provenance.installed(["numpy", "no-such-distribution"]) == {"numpy": version("numpy")}
    assert provenance.versions().items() >= {"numpy": version("numpy")}.items()
