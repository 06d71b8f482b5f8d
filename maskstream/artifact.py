"""Artifact: the folder contract between export and everything that runs the networks. Graphs, checkpoint, manifest.

The manifest names each file with its size and SHA-256, and loading checks them all: an artifact runs exactly as it was
verified or is refused by name. Weights are stored losslessly, and the checkpoint travels along, so that the torch
engine, a further training run or an export to another precision starts from the very weights that are served.

    manifest.json  encode_frame.onnx  encode_mask.onnx  segment.onnx  checkpoint.pt

It may hold the graphs in a second precision beside the first (`encode_frame.int8.onnx`): one folder for machines that
are fast at int8 and for those that are not. Each has its own parity figures in the manifest.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from maskstream.errors import ArtifactError
from maskstream.networks import NetworkSpec

FORMAT = "maskstream-artifact"
VERSION = 2  # since `valid` is the trust in a slot
MANIFEST = "manifest.json"
CHECKPOINT = "checkpoint.pt"
GRAPHS = ("encode_frame", "encode_mask", "segment")

_DEFAULT = Path(__file__).resolve().parent / "weights" / "live_r18"
_EXPORT_AGAIN = "export the checkpoint again with maskstream-export"


@dataclass(frozen=True)
class Artifact:
    """A verified artifact. `graphs` has the ONNX file of each of `GRAPHS`; `version` is a hash of the contents."""

    folder: Path
    spec: NetworkSpec
    precision: str
    version: str
    graphs: dict[str, Path]
    checkpoint: Path
    manifest: dict[str, Any] = field(repr=False)

    @property
    def model_name(self) -> str:
        """The recipe's name, e.g. "live_r18"."""
        return self.spec.name

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the weights come from: the checkpoint's own provenance."""
        found: dict[str, Any] = self.manifest["checkpoint"]["provenance"]
        return found

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that it holds graphs of, the first one first."""
        return (self.precision, *self.manifest.get("variants", {}))

    def in_precision(self, precision: str) -> "Artifact":
        """The artifact as if it held its graphs of `precision` alone. Raises ArtifactError when it holds none."""
        if precision == self.precision:
            return self
        if precision not in self.precisions:
            raise ArtifactError(
                f"{self.folder}: holds {', '.join(self.precisions)} and no {precision}; "
                f"maskstream-export --precision {self.precision}+{precision} makes one that holds both"
            )
        variant = self.manifest["variants"][precision]
        graphs = {name: self.folder / variant["graphs"][name]["file"] for name in GRAPHS}
        own = {**self.manifest, **variant, "precision": precision, "variants": {}}
        return replace(self, precision=precision, graphs=graphs, manifest=own)

    @classmethod
    def load(cls, path: Path) -> "Artifact":
        """Read and check `path`. Raises ArtifactError naming the file at fault and what to do."""
        if not path.is_dir():
            raise ArtifactError(f"{path}: no such artifact folder; make one with maskstream-export")
        manifest = _read_manifest(path / MANIFEST)
        try:
            files: dict[str, dict[str, Any]] = manifest["files"]
            graphs = {name: manifest["graphs"][name]["file"] for name in GRAPHS}
            others = [
                other["graphs"][name]["file"] for other in manifest.get("variants", {}).values() for name in GRAPHS
            ]
            checkpoint: str = manifest["checkpoint"]["file"]
            spec = NetworkSpec(**{key.name: manifest["spec"][key.name] for key in fields(NetworkSpec)})
            precision: str = manifest["precision"]
            version = _content_version(manifest)
        except (KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(
                f"{path / MANIFEST}: incomplete ({error} is missing or wrong); {_EXPORT_AGAIN}"
            ) from error
        for name in sorted({*files, *graphs.values(), *others, checkpoint}):
            _check_file(path, name, files.get(name))
        located = {name: path / file for name, file in graphs.items()}
        return cls(path, spec, precision, version, located, path / checkpoint, manifest)


def seal(folder: Path, spec: NetworkSpec, manifest: dict[str, Any]) -> None:
    """Write the manifest of a folder whose other files are complete: `manifest` plus format, spec and file hashes."""
    names = sorted(file.name for file in folder.iterdir() if file.name != MANIFEST)
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)} for name in names}
    record = {"format": FORMAT, "version": VERSION, "spec": asdict(spec), **manifest, "files": files}
    (folder / MANIFEST).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def default_artifact() -> Path:
    """The folder of the shipped model. Raises ArtifactError when this installation came without it."""
    if not _DEFAULT.is_dir():
        raise ArtifactError(
            f"{_DEFAULT}: this installation ships no model; give --artifact, made with maskstream-export"
        )
    return _DEFAULT


def sha256_of(file: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_manifest(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ArtifactError(f"{file}: missing, so this folder is no artifact; {_EXPORT_AGAIN}")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{file}: not readable as JSON ({error}); {_EXPORT_AGAIN}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactError(f"{file}: a JSON file, but not the manifest of a maskstream artifact")
    if manifest.get("version") != VERSION:
        raise ArtifactError(
            f"{file}: artifact version {manifest.get('version')}, this maskstream reads {VERSION}; {_EXPORT_AGAIN}"
        )
    return manifest


def _check_file(folder: Path, name: str, expected: dict[str, Any] | None) -> None:
    file = folder / name
    if expected is None or Path(name).name != name:
        raise ArtifactError(f"{folder / MANIFEST}: lists no checksum for {name!r} in this folder; {_EXPORT_AGAIN}")
    if not file.is_file():
        raise ArtifactError(f"{file}: missing, though the manifest lists it; copy the whole folder or {_EXPORT_AGAIN}")
    if sha256_of(file) != expected.get("sha256"):
        raise ArtifactError(
            f"{file}: its SHA-256 is not the manifest's, so the file was altered or cut short; "
            f"copy the folder again or {_EXPORT_AGAIN}"
        )


def _content_version(manifest: dict[str, Any]) -> str:
    """Twelve hex digits that change with the weights, the graphs or the spec, and with nothing else."""
    hashes = {name: record["sha256"] for name, record in manifest["files"].items()}
    content = json.dumps({"files": hashes, "spec": manifest["spec"]}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]
