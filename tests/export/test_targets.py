"""targets.toml: what is multiplied out, and that every slip is told where it is and what was expected."""

from pathlib import Path

import pytest

from export.targets import Build, TargetsError, expand, read_targets
from maskstream.networks import NetworkSpec

GOOD = """
[[target]]
name = "cpu"
engine = ["onnxruntime", "openvino"]

[[target]]
name = "gpu-480p"
engine = ["tensorrt"]
precision = ["fp16"]
size = ["480x854", "1080x1920"]
objects = [1, 4, 16]
streams = [1, 8]
"""


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "targets.toml"
    file.write_text(text)
    return file


def test_lists_are_multiplied_out_under_names_that_tell_them_apart(tmp_path: Path) -> None:
    builds = expand(read_targets(written(tmp_path, GOOD)))
    names = [build.name for build in builds]
    assert names[:2] == ["cpu-onnxruntime-fp32", "cpu-openvino-fp32"]
    assert names[2:4] == ["gpu-480p-tensorrt-fp16-480x854-o1-b1", "gpu-480p-tensorrt-fp16-480x854-o1-b8"]
    assert "gpu-480p-tensorrt-fp16-480x854-o4-b8" in names
    assert len(set(names)) == len(names) == 2 + 2 * 3 * 2
    assert builds[-1] == Build("gpu-480p", "tensorrt", "fp16", (1080, 1920), 16, 8)


def test_a_build_survives_json(tmp_path: Path) -> None:
    for build in expand(read_targets(written(tmp_path, GOOD))):
        assert Build.of_settings(build.settings()) == build


@pytest.mark.parametrize(("size", "grid"), [((480, 854), (30, 53)), ((479, 853), (30, 53)), ((1080, 1920), (30, 53))])
def test_the_grid_is_that_of_the_tracker(size: tuple[int, int], grid: tuple[int, int]) -> None:
    spec = NetworkSpec("any", 16, 4, 64, 144, 480, 6, 5)
    assert Build("t", "tensorrt", "fp16", size).grid(spec) == grid


HEAD = '[[target]]\nname = "a"\n'
ENGINE = 'engine = ["tensorrt"]\n'
SIZE = 'size = ["480x854"]\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "no target in it; write at least one"),
        ("target = []", "no target in it; write at least one"),
        ("target = [1]", "no target in it; write at least one"),
        ("[[target]\n", r"not readable as TOML \(.*line 1"),
        ("[other]\n", r"'other' is unknown; all there may be is \[\[target\]\]"),
        ("[[target]]\n" + ENGINE, "target 1: name must be given"),
        ('[[target]]\nname = "a/b"\n' + ENGINE, "target 'a/b': name must be given, of letters"),
        (HEAD, r"target 'a': engine is missing: it is a list of names, as in engine = \[\"onnxruntime\"\]"),
        (HEAD + 'engine = "openvino"\n', "target 'a': engine must be a list of names, .*; found 'openvino'"),
        (HEAD + "engine = []\n", r"target 'a': engine must be a list of names, .*; found \[\]"),
        (HEAD + 'engine = ["cuda"]\n', "target 'a': no engine is called 'cuda'; choose from onnxruntime, openvino"),
        (HEAD + 'engine = ["openvino", "openvino"]\n', "target 'a': engine has 'openvino' twice"),
        (HEAD + 'engine = ["openvino"]\nprecision = ["fp8"]\n', "no precision is called 'fp8'; choose from fp32, fp16"),
        (HEAD + 'engine = ["torch"]\nprecision = ["fp16"]\n', "target 'a': torch computes in fp32 alone"),
        (HEAD + ENGINE, "target 'a': tensorrt is built for the sizes it will see; add them"),
        (HEAD + ENGINE + SIZE + 'precision = ["int8"]\n', "target 'a': tensorrt takes fp32 or fp16; int8 graphs are"),
        (HEAD + ENGINE + 'size = ["480"]\n', "target 'a': size '480' must be HEIGHTxWIDTH"),
        (HEAD + ENGINE + 'size = ["480x16"]\n', "target 'a': size '480x16' must be HEIGHTxWIDTH .* 32 at least"),
        (HEAD + ENGINE + "size = [480]\n", r"target 'a': size must be a list of HEIGHTxWIDTH .*; found \[480\]"),
        (HEAD + ENGINE + SIZE + "objects = [0]\n", "target 'a': objects 0 must be between 1 and 255"),
        (
            HEAD + ENGINE + SIZE + "objects = [true]\n",
            r"target 'a': objects must be a list of numbers, .*found \[True\]",
        ),
        (HEAD + ENGINE + SIZE + "streams = [65]\n", "target 'a': streams 65 must be between 1 and 64"),
        (HEAD + 'engine = ["openvino"]\nobjects = [2]\n', "target 'a': objects goes with a size"),
        (HEAD + ENGINE + SIZE + "sizes = [1]\n", "target 'a': 'sizes' is unknown; known are name, engine, precision"),
        (2 * (HEAD + ENGINE + SIZE), "target 'a': two targets have this name"),
    ],
)
def test_every_slip_is_one_error_that_names_file_and_target(tmp_path: Path, text: str, expected: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(TargetsError, match=f"^{file}[:,].*{expected}"):
        read_targets(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TargetsError, match=r"none\.toml: no such file"):
        read_targets(tmp_path / "none.toml")
