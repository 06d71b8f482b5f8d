"""The record of an engine: what fits where, by plain values. No library, no GPU."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maskstream.artifact import sha256_of
from maskstream.engine_sidecar import (
    EngineMismatch,
    EngineOptions,
    EngineProfile,
    EngineSidecar,
    Machine,
    check_engine,
    gpu_mismatches,
    origin_mismatches,
    replace_file,
    sidecar_file,
)
from maskstream.errors import ArtifactError

ADA = Machine("tensorrt", "10.16.1.11", "Some Ada", "8.9", "580.65.06")
FULL = EngineSidecar("segment", "aa", "bb", ADA, ("8.9",), EngineProfile.for_load("480p", (30, 54), 4, 2))
ANYWHERE = Machine("tensorrt_rtx", "1.7.1.116")
RTX = replace(FULL, built_on=ANYWHERE, runs_on=("8.0", "8.6", "8.9", "12.0"))


def differing(sidecar: EngineSidecar, machine: Machine, onnx_sha256: str = "aa") -> dict[str, tuple[str, str]]:
    found = [*origin_mismatches(sidecar, machine, onnx_sha256), *gpu_mismatches(sidecar, machine)]
    return {one.field: (one.found, one.expected) for one in found}


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """An engine that fits ADA, its graph beside it."""
    file = tmp_path / "segment.engine"
    file.write_bytes(b"plan")
    file.with_suffix(".onnx").write_bytes(b"graph")
    replace(FULL, onnx_sha256=sha256_of(file.with_suffix(".onnx")), engine_sha256=sha256_of(file)).write(file)
    return file


@pytest.mark.parametrize(
    ("changed", "field", "found", "expected"),
    [
        ({"flavour": "tensorrt_rtx"}, "the library", "tensorrt_rtx", "tensorrt"),
        ({"version": "10.16.1.12"}, "the library's version", "10.16.1.12", "10.16.1.11"),
        ({"compute_capability": "8.6"}, "the compute capability", "8.6", "8.9"),
        ({"gpu": "Other Ada"}, "the GPU", "Other Ada", "Some Ada"),
        ({"driver": "575.9.1"}, "the driver", "575.9.1", "580.65.06 or later"),
        ({"gpu": None, "compute_capability": None}, "the GPU", "none", "Some Ada"),
    ],
)
def test_each_field_that_differs_is_found(changed: dict[str, Any], field: str, found: str, expected: str) -> None:
    assert differing(FULL, replace(ADA, **changed)) == {field: (found, expected)}


def test_what_fits_fits() -> None:
    assert differing(FULL, ADA) == {}
    assert differing(FULL, replace(ADA, driver="590.1")) == {}
    assert differing(FULL, replace(ADA, driver=None)) == {}


def test_another_graph_is_found() -> None:
    assert differing(FULL, ADA, "cc") == {"the graph's SHA-256": ("cc", "aa")}


def test_everything_that_differs_is_told_at_once() -> None:
    there = Machine("tensorrt", "11.4.0.106", "Some Hopper", "9.0", "500.1")
    assert list(differing(FULL, there, "cc")) == [
        *("the graph's SHA-256", "the library's version", "the compute capability", "the driver")
    ]


def test_a_version_compatible_engine_runs_on_later_versions_alone() -> None:
    compatible = replace(FULL, options=EngineOptions(version_compatible=True))
    assert differing(compatible, replace(ADA, version="11.4.0.106")) == {}
    assert differing(compatible, replace(ADA, version="10.9.0.34")) == {
        "the library's version": ("10.9.0.34", "10.16.1.11 or later")
    }


def test_a_hardware_compatible_engine_runs_on_other_models() -> None:
    same = replace(FULL, options=EngineOptions("same_compute_capability"))
    assert differing(same, replace(ADA, gpu="Other Ada")) == {}
    assert "the compute capability" in differing(same, replace(ADA, gpu="Blackwell", compute_capability="12.0"))
    newer = replace(FULL, options=EngineOptions("ampere_plus"))
    assert differing(newer, replace(ADA, gpu="Blackwell", compute_capability="12.0")) == {}
    assert differing(newer, replace(ADA, gpu="Turing", compute_capability="7.5")) == {
        "the compute capability": ("7.5", "8.0 or later")
    }


def test_what_was_built_without_a_gpu_runs_on_those_it_was_built_for() -> None:
    there = replace(ANYWHERE, gpu="Some Ampere", compute_capability="8.6", driver="580.1")
    assert differing(RTX, there) == {}
    hopper = replace(there, gpu="Some Hopper", compute_capability="9.0")
    assert differing(RTX, hopper) == {"the compute capability": ("9.0", "8.0 or 8.6 or 8.9 or 12.0")}
    assert differing(RTX, ANYWHERE) == {"the GPU": ("none", "one of compute capability 8.0 or 8.6 or 8.9 or 12.0")}


def test_what_is_written_is_read(engine: Path) -> None:
    options = EngineOptions("ampere_plus", True, True, 4, ("8.9", "12.0"))
    written = replace(EngineSidecar.read(engine), options=options, activation_bytes=5)
    written.write(engine)
    assert EngineSidecar.read(engine) == written
    written.measured(0.875).write(engine)
    assert json.loads(sidecar_file(engine).read_text())["golden_mask_iou"] == 0.875


def test_an_engine_that_fits_is_accepted(engine: Path) -> None:
    assert check_engine(engine, engine.with_suffix(".onnx"), ADA).graph == "segment"


def test_a_mismatch_names_the_file_what_was_found_what_was_expected_and_the_command(engine: Path) -> None:
    with pytest.raises(EngineMismatch) as caught:
        check_engine(engine, engine.with_suffix(".onnx"), replace(ADA, compute_capability="8.6", driver="500.1"))
    assert str(caught.value) == (
        f"{engine}: does not fit: the compute capability is 8.6, expected 8.9; the driver is 500.1, expected 580.65.06 "
        f"or later; build it again here: maskstream-export {engine.parent / 'checkpoint.pt'} --out NEW_FOLDER "
        "--targets targets.toml"
    )
    assert caught.value.reason == "ENGINE_UNAVAILABLE"


def test_an_engine_and_a_record_that_do_not_belong_together_are_refused(engine: Path) -> None:
    engine.write_bytes(b"another plan")
    with pytest.raises(ArtifactError, match=r"segment\.engine: not the file that segment\.engine\.json describes"):
        check_engine(engine, engine.with_suffix(".onnx"), ADA)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda file: file.unlink(), "missing, and segment.engine is not loaded without it"),
        (lambda file: file.write_text("{"), "not readable as JSON"),
        (lambda file: file.write_text("[]"), "not an engine's record of version 1"),
        (lambda file: change(file, "version", 99), "not an engine's record of version 1"),
        (lambda file: change(file, "profile", {}), "incomplete"),
        (lambda file: change(file, "built_on", {"gpu": 1}), "incomplete"),
        (lambda file: change(file, "runs_on", None), "incomplete"),
    ],
)
def test_a_damaged_record_is_named_with_what_to_do(engine: Path, spoil: Any, told: str) -> None:
    spoil(sidecar_file(engine))
    with pytest.raises(ArtifactError, match=rf"segment\.engine\.json: {told}.*; build it again here"):
        check_engine(engine, engine.with_suffix(".onnx"), ADA)


def change(file: Path, key: str, value: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))


def test_an_engine_that_is_not_there_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none\.engine: no such engine; build it again here: maskstream-export"):
        check_engine(tmp_path / "none.engine", tmp_path / "none.onnx", ADA)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "e.engine"
    replace_file(file, b"old")
    with pytest.raises(TypeError):
        replace_file(file, "no bytes")  # type: ignore[arg-type]
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
