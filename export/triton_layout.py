"""A verified artifact as a model repository of Triton: one model for each graph, and how a client puts them together.

    DIR/encode_frame/config.pbtxt    DIR/encode_frame/1/model.onnx    (encode_mask, segment likewise)
    DIR/maskstream.json              the artifact's manifest: spec, parity, provenance
    DIR/README.txt                   the order of calls, and the bank, which the client holds

The graphs are the artifact's own files and pass its gate first. They are stateless, so any instance may answer any
call. `max_batch_size` is 0, which to Triton means that shapes are given whole: the first axis of each is streams, and
who has several of one size sends them together. Triton's own batching would join calls whose other axes happen to
agree, and those are objects and tokens, which change from call to call.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from export.build import folder_beside, put_in_place
from export.verify import ParityReport
from maskstream.artifact import Artifact
from maskstream.errors import ArtifactError
from maskstream.memory_bank import LAST_TRUST
from maskstream.networks import NetworkSpec

MARK = "maskstream.json"
CONFIG, MODEL, VERSION = "config.pbtxt", "model.onnx", "1"
_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}


def build_repository(out: Path, make: Callable[[Path], ParityReport]) -> ParityReport:
    """Write the model repository `out` from the artifact that `make(folder)` builds and verifies.

    A repository of ours that is there already is replaced. Raises ArtifactError when `out` holds anything else, and
    what `make` raises; nothing is written then.
    """
    refuse_occupied_repository(out)
    with folder_beside(out) as folder:
        artifact = folder.with_name("plain")
        report = make(artifact)
        fill_repository(folder, Artifact.load(artifact))
        put_in_place(folder, out)
    return report


def refuse_occupied_repository(out: Path) -> None:
    """Raises ArtifactError when `out` exists and is no repository that we wrote: it is not ours to delete."""
    if out.exists() and not (out / MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ArtifactError(
            f"{out}: exists and is no model repository of ours; choose another --out or remove it first"
        )


def fill_repository(folder: Path, artifact: Artifact) -> None:
    """All files of a repository, into a folder that is there and empty."""
    for name, file in artifact.graphs.items():
        version = folder / name / VERSION
        version.mkdir(parents=True)
        shutil.copyfile(file, version / MODEL)
        (folder / name / CONFIG).write_text(config_text(name, artifact.manifest["graphs"][name]), encoding="ascii")
    (folder / MARK).write_text(json.dumps(artifact.manifest, indent=1) + "\n", encoding="utf-8")
    (folder / "README.txt").write_text(_readme(artifact), encoding="ascii")


def config_text(name: str, graph: dict[str, Any]) -> str:
    """A model's configuration, from a graph's entry in a manifest. Axes without a number of their own are -1.

    Raises ArtifactError for a type that the graphs of this version do not have.
    """
    return (
        f'name: "{name}"\n'
        'platform: "onnxruntime_onnx"\n'
        f'default_model_filename: "{MODEL}"\n'
        "max_batch_size: 0  # shapes are given whole; the first axis is streams\n"
        f"{_ports('input', graph['inputs'])}"
        f"{_ports('output', graph['outputs'])}"
        "instance_group [ { count: 1 kind: KIND_AUTO } ]  # on each GPU, else on the CPU\n"
    )


def _ports(kind: str, ports: list[dict[str, Any]]) -> str:
    entries = []
    for port in ports:
        dims = ", ".join(str(side) if isinstance(side, int) else "-1" for side in port["shape"])
        entries.append(f'  {{ name: "{port["name"]}" data_type: {_type(port)} dims: [ {dims} ] }}')
    return f"{kind} [\n" + ",\n".join(entries) + "\n]\n"


def _type(port: dict[str, Any]) -> str:
    if port["dtype"] not in _TYPES:
        raise ArtifactError(f"port {port['name']} is of type {port['dtype']!r}; expected one of {', '.join(_TYPES)}")
    return _TYPES[port["dtype"]]


def _readme(artifact: Artifact) -> str:
    graphs = artifact.manifest["graphs"]
    ports = "\n".join(_graph_lines(name, graphs[name]) for name in artifact.graphs)
    return _README.format(
        model=artifact.model_name,
        version=artifact.version,
        precision=artifact.precision,
        opset=artifact.manifest["opset"],
        ports=ports,
        **_figures(artifact.spec),
    )


def _figures(spec: NetworkSpec) -> dict[str, float]:
    return {
        "stride": spec.stride,
        "mask_stride": spec.mask_stride,
        "short_side": spec.short_side,
        "slots": spec.capacity,
        "memory_stride": spec.memory_stride,
        "last_trust": LAST_TRUST,
    }


def _graph_lines(name: str, graph: dict[str, Any]) -> str:
    lines = [f"  {name}"]
    for arrow, ports in (("<-", graph["inputs"]), ("->", graph["outputs"])):
        lines += [f"    {arrow} {port['name']:<11} {port['dtype']:<8} {_shape(port)}" for port in ports]
    return "\n".join(lines)


def _shape(port: dict[str, Any]) -> str:
    return f"[{', '.join(str(side) for side in port['shape'])}]"


_README = """\
maskstream {model}, artifact {version}, {precision}: a model repository for NVIDIA Triton Inference Server

    tritonserver --model-repository THIS_FOLDER

Three stateless models, ONNX of opset {opset}, which Triton's ONNX Runtime backend runs:

{ports}

B streams, O objects, h and w tokens of a frame by rows and columns; a token covers {stride} pixels. All frames of a
call have one size, and all its streams one number of objects.

STATE. Triton holds none. A stream's memory bank is the client's: {slots} slots, each with the key of one frame, the
value of each object on it, and when it was written. The bank goes along with every call of segment, whole; slots that
are empty, or do not hold an object, have 0 in `valid` and may hold any finite numbers. `valid` of a slot in use is the
trust in it: 1, and {last_trust} for the newest frame, unless it was prompted, until it is one of those that stay. `age`
is the number of frames since a slot was written.

A FRAME, IN TURN. Resize it to the working size: RGB, bytes, its short side near {short_side} pixels, both sides
multiples of {stride}. Soft masks are probabilities at a stride of {mask_stride} pixels, objects only, without the
background.

  1. encode_frame(frame) gives the features of the frame.
  2. segment(features, bank) gives `decoded`, the answer, and `coarse`, what the bank alone propagates. There is nothing
     to ask on the first frame: its masks are given. An object that is prompted on a later frame gets its prompt in
     place of both, and is taken out of the others.
  3. encode_mask(context, coarse) gives the values to store; on the first frame the masks that were given take the place
     of `coarse`. `coarse` and not `decoded`: a network that reads its own answers feeds on their errors.
  4. Write key and value into the bank. A frame with a prompt is kept for good, or until a later prompt needs its place;
     the last frame is always kept; of the others every {memory_stride}th, the oldest going first.

The class maskstream.tracker.Tracker does all this around any object with the three methods of
maskstream.networks.Networks; maskstream.engines.graph_inputs names the inputs. A client in Python needs three methods
that call Triton, and no more. maskstream.json has the spec, the parity figures and where the weights come from.

Each frame sends the bank to Triton again, megabytes for the keys and more for each object; on one machine use shared
memory for it.
maskstream-serve keeps the bank beside the engine instead and takes frames alone.
"""
