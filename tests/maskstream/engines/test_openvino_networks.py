"""OpenVINO: what it compiles for one size answers as what it compiles for any, and sizes cannot pile up."""

import os
import shutil

import numpy as np
import pytest

from export.verify import output_parity, tolerance_of
from maskstream.artifact import Artifact
from maskstream.errors import ArtifactError

pytest.importorskip("openvino")

from maskstream.engines import openvino_networks
from maskstream.engines.openvino_networks import FRAME_SIZES, OpenVinoNetworks

pytestmark = pytest.mark.timeout(600)  # the first test exports the small model
SIZES = [(64 + 32 * index, 96) for index in range(FRAME_SIZES + 1)]


@pytest.fixture
def compiled(monkeypatch):
    """The shapes of what is compiled, in order."""
    shapes, compile_model = [], openvino_networks._compile

    def counted(core, threads, file, model):
        shapes.append(str(model.inputs[0].partial_shape))
        return compile_model(core, threads, file, model)

    monkeypatch.setattr(openvino_networks, "_compile", counted)
    return shapes


def frames(size, batch=1):
    return np.random.default_rng(0).integers(0, 256, (batch, *size, 3), dtype=np.uint8)


def test_a_frame_alone_answers_as_two_in_one_call(small_artifact):
    networks = OpenVinoNetworks(Artifact.load(small_artifact), 1)
    pair = frames(SIZES[0], batch=2)
    together, alone = networks.encode_frame(pair), networks.encode_frame(pair[1:])
    for name, of_two, of_one in zip(together._fields, together, alone, strict=True):
        row = output_parity("encode_frame", name, "alone", of_two[1:], of_one)
        assert row.within(tolerance_of(networks.precision)), row


def test_only_the_first_sizes_are_compiled_for_themselves(small_artifact, compiled):
    networks = OpenVinoNetworks(Artifact.load(small_artifact), 1)
    del compiled[:]
    networks.encode_frame(frames(SIZES[0], batch=2))
    assert compiled == []  # how many streams come together changes from call to call
    for _ in range(2):
        for size in SIZES:
            assert np.isfinite(networks.encode_frame(frames(size)).key).all()
    assert compiled == [f"[1,{height},{width},3]" for height, width in SIZES[:FRAME_SIZES]]


def test_a_file_that_changes_under_a_server_changes_nothing(small_artifact, tmp_path):
    folder = shutil.copytree(small_artifact, tmp_path / "artifact")
    artifact = Artifact.load(folder)
    networks = OpenVinoNetworks(artifact, 1)
    os.truncate(artifact.graphs["encode_frame"], 100)  # as an update in place would
    assert np.isfinite(networks.encode_frame(frames(SIZES[0])).key).all()


def test_a_graph_that_cannot_be_read_names_its_file(small_artifact, tmp_path):
    artifact = Artifact.load(shutil.copytree(small_artifact, tmp_path / "artifact"))
    artifact.graphs["segment"].write_bytes(b"no graph")
    with pytest.raises(ArtifactError, match=r"segment\.onnx: OpenVINO cannot read it"):
        OpenVinoNetworks(artifact, 1)
