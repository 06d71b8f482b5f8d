"""The artifact that is served: a link is followed once, what cannot be loaded is told."""

import shutil

import pytest

from maskstream.errors import ArtifactError
from serve.config import ServeConfig
from serve.loading import load_model


def test_a_link_can_be_pointed_at_another_artifact_between_two_loads(small_artifact, tmp_path):
    second = tmp_path / "second"
    shutil.copytree(small_artifact, second)
    link = tmp_path / "current"
    link.symlink_to(small_artifact)
    config = ServeConfig(artifact=link, engine="onnxruntime")
    model = load_model(config)
    assert (model.identity.model, model.identity.engine, model.max_batch) == ("small", "onnxruntime", 1)
    link.unlink()
    link.symlink_to(second)
    (second / "segment.onnx").write_bytes(b"half a file")
    with pytest.raises(ArtifactError, match=r"second.*segment\.onnx"):
        load_model(config)
