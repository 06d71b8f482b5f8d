"""An artifact is taken as it was verified, or refused with the name of the file at fault."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maskstream.artifact import GRAPHS, MANIFEST, Artifact, sha256_of
from maskstream.errors import ArtifactError

pytestmark = pytest.mark.timeout(600)  # the first test exports the small model


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_an_artifact_says_what_it_is(small_artifact: Path, small_checkpoint_file: Path) -> None:
    artifact = Artifact.load(small_artifact)
    assert artifact.model_name == artifact.spec.name == "small"
    assert artifact.spec.capacity == 4
    assert artifact.precision == "fp32"
    assert sorted(artifact.graphs) == sorted(GRAPHS)
    assert artifact.provenance == {"data": "none: random weights"}
    assert artifact.checkpoint.read_bytes() == small_checkpoint_file.read_bytes()
    assert len(artifact.version) == 12


def test_the_manifest_lists_every_file_and_every_port(small_artifact: Path) -> None:
    manifest = Artifact.load(small_artifact).manifest
    assert set(manifest["files"]) == {file.name for file in small_artifact.iterdir()} - {MANIFEST}
    assert [port["name"] for port in manifest["graphs"]["segment"]["outputs"]] == ["decoded", "coarse"]
    frame = manifest["graphs"]["encode_frame"]["inputs"][0]
    assert frame == {"name": "frame", "dtype": "uint8", "shape": ["B", "16*h", "16*w", 3]}
    assert {row["output"] for row in manifest["parity"]["outputs"]} >= {"key", "value", "decoded", "coarse"}
    assert {"torch", "onnx", "maskstream"} <= set(manifest["made_with"])


def test_the_version_follows_the_contents_and_not_the_date(copied_artifact: Path) -> None:
    before = Artifact.load(copied_artifact).version
    edit_manifest(copied_artifact, lambda manifest: manifest.update(created="another day"))
    assert Artifact.load(copied_artifact).version == before
    edit_manifest(copied_artifact, lambda manifest: manifest["spec"].update(memory_stride=7))
    assert Artifact.load(copied_artifact).version != before


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere: no such artifact folder; make one with maskstream-export"):
        Artifact.load(tmp_path / "nowhere")


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"manifest\.json: missing"):
        Artifact.load(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "another"}'])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        Artifact.load(tmp_path)


def test_another_format_version_is_refused(copied_artifact: Path) -> None:
    edit_manifest(copied_artifact, lambda manifest: manifest.update(version=99))
    with pytest.raises(ArtifactError, match=r"artifact version 99, this maskstream reads 2; export"):
        Artifact.load(copied_artifact)


@pytest.mark.parametrize("key", ["files", "graphs", "spec", "checkpoint", "precision"])
def test_an_incomplete_manifest_is_refused(copied_artifact: Path, key: str) -> None:
    edit_manifest(copied_artifact, lambda manifest: manifest.pop(key))
    with pytest.raises(ArtifactError, match=f"incomplete.*{key}"):
        Artifact.load(copied_artifact)


@pytest.mark.parametrize("name", ["segment.onnx", "checkpoint.pt"])
def test_a_missing_file_is_refused(copied_artifact: Path, name: str) -> None:
    (copied_artifact / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name}: missing"):
        Artifact.load(copied_artifact)


@pytest.mark.parametrize("name", ["encode_frame.onnx", "checkpoint.pt"])
def test_a_tampered_file_is_refused(copied_artifact: Path, name: str) -> None:
    contents = bytearray((copied_artifact / name).read_bytes())
    contents[len(contents) // 2] ^= 1
    (copied_artifact / name).write_bytes(contents)
    with pytest.raises(ArtifactError, match=f"{name}: its SHA-256 is not the manifest's"):
        Artifact.load(copied_artifact)


def test_a_manifest_cannot_name_files_outside_its_folder(copied_artifact: Path) -> None:
    (copied_artifact / "segment.onnx").rename(copied_artifact.parent / "segment.onnx")

    def point_outside(manifest: dict[str, Any]) -> None:
        manifest["graphs"]["segment"]["file"] = "../segment.onnx"
        manifest["files"]["../segment.onnx"] = manifest["files"].pop("segment.onnx")

    edit_manifest(copied_artifact, point_outside)
    with pytest.raises(ArtifactError, match=r"\.\./segment\.onnx"):
        Artifact.load(copied_artifact)


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_reading_an_artifact_reaches_no_torch() -> None:
    code = "import maskstream.artifact, maskstream.engines, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
