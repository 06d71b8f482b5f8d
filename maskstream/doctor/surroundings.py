"""What surrounds the program: graphics card, video decoders, cameras, the ports of a server, weights, extras."""

import ctypes.util
import importlib.util
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskstream.artifact import Artifact, default_artifact
from maskstream.doctor.findings import FAILED, MISSING, NOTE, OK, Finding, install
from maskstream.engines.cuda_runtime import driver_version
from maskstream.errors import ArtifactError
from maskstream.provenance import hardware, installed

PORTS = {50051: "gRPC", 9464: "page and metrics"}
_CODECS = ("h264", "hevc", "vp9", "av1", "mjpeg")
_NEEDED = ("h264",)
_LISTENING = "0A"  # in /proc/net/tcp


@dataclass(frozen=True)
class Extra:
    """An extra of the distribution: packages that show it is there, and what it gives."""

    packages: tuple[str, ...]
    gives: str


EXTRAS = {
    "serve": Extra(("grpc_health", "grpc_reflection", "grpc_status", "prometheus_client"), "maskstream-serve"),
    "cpu": Extra(("onnxruntime", "openvino"), "engines for processors"),
    "web": Extra(("starlette", "uvicorn", "websockets"), "the page of maskstream-serve --http"),
    "plot": Extra(("matplotlib",), "--plot of evaluate, bench and bench serve"),
    "train": Extra(("torch", "tensorboard"), "maskstream-train, and the engine torch"),
    "export": Extra(("torch", "onnx", "onnxscript"), "maskstream-export of checkpoints"),
    "ray": Extra(("ray",), "maskstream track-many on a cluster"),
    "otel": Extra(("opentelemetry.sdk", "opentelemetry.exporter"), "traces of streams and frames"),
}


def graphics() -> list[Finding]:
    """Card and driver, and the libraries that use them."""
    driver, cards = driver_version(), hardware()["gpus"]
    if driver is None:
        return [Finding("GPU", "NVIDIA driver", NOTE, "none: engines run on the processor")]
    name = ", ".join(cards) or "a card that nvidia-smi does not name"
    return [Finding("GPU", "NVIDIA driver", OK, f"{driver}: {name}"), _onnxruntime_gpu(), _tensorrt()]


def _onnxruntime_gpu() -> Finding:
    found = installed(("onnxruntime", "onnxruntime-gpu"))
    if len(found) == 2:
        advice = f"pip uninstall -y onnxruntime onnxruntime-gpu && {install('gpu')}"
        return Finding("GPU", "ONNX Runtime", FAILED, "both builds are installed, the last one wins", advice)
    if "onnxruntime-gpu" not in found:
        advice = f"the card for engine onnxruntime_cuda: pip uninstall -y onnxruntime && {install('gpu')}"
        return Finding("GPU", "ONNX Runtime", MISSING, "its build for CUDA is not installed", advice)
    from maskstream.engines.onnxruntime_library import onnxruntime

    providers: Sequence[str] = onnxruntime.get_available_providers()
    return Finding("GPU", "ONNX Runtime", OK, ", ".join(name.removesuffix("ExecutionProvider") for name in providers))


def _tensorrt() -> Finding:
    found = installed(("tensorrt", "tensorrt-rtx"))
    library = ctypes.util.find_library("nvinfer")
    if not found:
        advice = f"the fastest engine on NVIDIA cards: {install('tensorrt')}"
        detail = f"not installed for Python{f'; the system has {library}' if library else ''}"
        return Finding("GPU", "TensorRT", MISSING, detail, advice)
    return Finding("GPU", "TensorRT", OK, ", ".join(f"{name} {version}" for name, version in found.items()))


def video() -> list[Finding]:
    """FFmpeg as PyAV brings it: which codecs it reads, and by what hardware it could."""
    import av
    from av.codec import hwaccel

    known = [name for name in _CODECS if name in av.codecs_available]
    lacks = [name for name in _NEEDED if name not in known]
    advice = 'pip install --force-reinstall "av>=17"' if lacks else ""
    hardware_kinds = ", ".join(hwaccel.hwdevices_available()) or "none"
    return [
        Finding("video", "decoders", FAILED if lacks else OK, f"PyAV {av.__version__}: {', '.join(known)}", advice),
        Finding("video", "hardware", OK, f"FFmpeg was built with {hardware_kinds}; frames are decoded in software"),
    ]


def cameras(devices: Path = Path("/dev")) -> list[Finding]:
    """Cameras of this machine, by the number that `maskstream track` takes."""
    found = sorted(devices.glob("video[0-9]*"), key=lambda file: int(file.name.removeprefix("video")))
    if not found:
        return [Finding("video", "cameras", NOTE, "none here; files, folders, addresses and pipes are read as well")]
    closed = [file.name for file in found if not os.access(file, os.R_OK | os.W_OK)]
    detail = ", ".join(file.name.removeprefix("video") for file in found)
    if closed:
        advice = "sudo usermod -aG video $USER, then log in again"
        return [Finding("video", "cameras", NOTE, f"{detail}; no permission for {', '.join(closed)}", advice)]
    return [Finding("video", "cameras", OK, f"{detail} (maskstream track {detail.split(',')[0]} ...)")]


def ports(wanted: dict[int, str] | None = None) -> list[Finding]:
    """Whether the server's ports are free, and who listens where they are not."""
    return [_port(port, use) for port, use in (wanted or PORTS).items()]


def _port(port: int, use: str) -> Finding:
    name = f"port {port}"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            who = listener(port)
            flag = "--listen" if use == PORTS[50051] else "--http"
            detail = f"{use}: taken by {who}" if who else f"{use}: {error.strerror}"
            return Finding("server", name, NOTE, detail, f"maskstream-serve {flag} 127.0.0.1:0 takes a free one")
    return Finding("server", name, OK, f"{use}: free")


def listener(port: int) -> str | None:
    """The program that listens on a TCP port, as in "python (4711)"; None when that cannot be seen."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(str(entry.readlink()) in sockets for entry in folder.iterdir()):
                return f"{(folder.parent / 'comm').read_text(encoding='utf-8').strip()} ({folder.parent.name})"
        except OSError:  # of another user, or gone meanwhile
            continue
    return None


def _listening(port: int) -> Iterator[str]:
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        lines = table.read_text(encoding="ascii").splitlines()[1:] if table.is_file() else []
        for fields in map(str.split, lines):
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def weights(folder: Path | None = None) -> list[Finding]:
    """Every file of the shipped model against its SHA-256."""
    try:
        artifact = Artifact.load(folder or default_artifact())
    except ArtifactError as error:
        return [Finding("model", "shipped weights", FAILED, str(error), "install maskstream again: they come with it")]
    detail = f"{artifact.model_name} {artifact.version[:12]}, {', '.join(artifact.precisions)}, all files whole"
    return [Finding("model", "shipped weights", OK, detail)]


def extras() -> list[Finding]:
    """Which extras are installed; nothing is imported to find out."""
    return [_extra(name, extra) for name, extra in EXTRAS.items()]


def _extra(name: str, extra: Extra) -> Finding:
    lacking = [package for package in extra.packages if not _there(package)]
    if not lacking:
        return Finding("extras", f"[{name}]", OK, extra.gives)
    return Finding("extras", f"[{name}]", MISSING, f"no {', '.join(lacking)}", f"{extra.gives}: {install(name)}")


def _there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of the package that should hold it
        return False
