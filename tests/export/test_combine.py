"""Two precisions in one artifact: each runs its own graphs, and the folder is as strict as any other."""

import json
from pathlib import Path

import pytest

from maskstream.artifact import GRAPHS, MANIFEST, Artifact
from maskstream.errors import ArtifactError

pytestmark = pytest.mark.timeout(600)  # the first test exports the small model


def test_the_first_precision_is_what_runs_when_none_is_asked_for(combined_artifact: Path) -> None:
    artifact = Artifact.load(combined_artifact)
    assert artifact.precision == "fp32"
    assert artifact.precisions == ("fp32", "int8")
    assert {file.name for file in artifact.graphs.values()} == {f"{name}.onnx" for name in GRAPHS}
    assert artifact.in_precision("fp32") is artifact


def test_the_second_has_its_own_graphs_and_record_and_shares_the_checkpoint(combined_artifact: Path) -> None:
    artifact = Artifact.load(combined_artifact)
    other = artifact.in_precision("int8")
    assert other.precision == "int8"
    assert other.precisions == ("int8",)
    assert {file.name for file in other.graphs.values()} == {f"{name}.int8.onnx" for name in GRAPHS}
    assert all(file.is_file() for file in other.graphs.values())
    assert other.manifest["quantisation"] == {"clips": ["a"]}
    assert other.checkpoint == artifact.checkpoint
    assert other.version == artifact.version


def test_a_precision_it_does_not_hold_is_refused_with_those_it_does(combined_artifact: Path) -> None:
    with pytest.raises(ArtifactError, match=r"holds fp32, int8 and no fp16; .* --precision fp32\+fp16"):
        Artifact.load(combined_artifact).in_precision("fp16")


def test_a_graph_of_the_second_that_was_altered_is_refused(combined_artifact: Path) -> None:
    (combined_artifact / "segment.int8.onnx").write_bytes(b"other")
    with pytest.raises(ArtifactError, match=r"segment\.int8\.onnx: its SHA-256"):
        Artifact.load(combined_artifact)


def test_a_second_precision_without_all_graphs_is_refused(combined_artifact: Path) -> None:
    manifest = json.loads((combined_artifact / MANIFEST).read_text())
    del manifest["variants"]["int8"]["graphs"]["segment"]
    (combined_artifact / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="incomplete"):
        Artifact.load(combined_artifact)
