"""ONNX Runtime's providers, and sessions that run on the one that was asked for or not at all.

Left to itself ONNX Runtime answers a request it cannot meet by running on the CPU with a line in its log: when a
provider's libraries do not load, when a provider takes only part of a graph, and when a run fails. Each of these is an
error here, and so are two installed builds that overwrite each other, and a TensorRT of the wrong version.
"""

import ctypes
import importlib.metadata
import importlib.util
import logging
from dataclasses import dataclass, field
from pathlib import Path

from maskstream.engines.cache_folder import cache_folder
from maskstream.engines.onnxruntime_library import onnxruntime
from maskstream.errors import ArtifactError, EngineUnavailable

TENSORRT_MAJOR = 10  # that ONNX Runtime's TensorRT provider is linked to
_TENSORRT_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
_HEAVY = ("Attention", "Conv", "Einsum", "Gemm", "MatMul", "Pool", "Resize", "Softmax")  # parts of operators' names
_ERRORS_ONLY = 3  # of ONNX Runtime's log levels

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Provider:
    """What runs graphs: its name in ONNX Runtime, our engine's name, the device its buffers are on, its options."""

    name: str
    engine: str
    device: str  # "cpu" or "cuda"
    options: dict[str, str] = field(default_factory=dict)
    beside: "tuple[Provider, ...]" = ()  # what takes the parts of a graph that this one does not


# TF32 keeps 10 bits where the read-out subtracts large squares. Memory grows by what is asked, not by doubling.
CPU = Provider("CPUExecutionProvider", "onnxruntime", "cpu")
CUDA = Provider(
    "CUDAExecutionProvider",
    "onnxruntime_cuda",
    "cuda",
    {"device_id": "0", "use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"},
)


def tensorrt(precision: str, cache: Path) -> Provider:
    """The TensorRT provider, which builds its engines at the first call of new shapes and keeps them in `cache`.

    Raises EngineUnavailable when the folder cannot be made: a server that builds for minutes at every start is no use.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineUnavailable(
            f"{cache}: cannot be made ({error}), so TensorRT's engines would be built at every start; set "
            "XDG_CACHE_HOME to a folder that may be written to"
        ) from error
    options = {
        "device_id": "0",
        "trt_fp16_enable": "1" if precision == "fp16" else "0",  # without it fp16 graphs are refused
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(cache),
    }
    return Provider("TensorrtExecutionProvider", "onnxruntime_tensorrt", "cuda", options, (CUDA,))


def engine_cache(version: str) -> Path:
    """Where engines of an artifact of this content are kept. Raises EngineUnavailable for a user without a home."""
    folder = cache_folder()
    if folder is None:
        raise EngineUnavailable("no home to keep TensorRT's engines in; set XDG_CACHE_HOME to a folder")
    return folder / "onnxruntime_tensorrt" / version


def prepare(provider: Provider) -> None:
    """Make ready what `provider` needs in this process. Raises EngineUnavailable when it cannot run here."""
    refuse_both_builds()
    available = onnxruntime.get_available_providers()
    if provider.name not in available:
        what_to_do = "" if provider is CPU else "; uninstall onnxruntime, then install maskstream[gpu]"
        raise EngineUnavailable(
            f"this onnxruntime has no {provider.name}, only {', '.join(available)}{what_to_do}; see docs/export.md"
        )
    if provider.device == "cuda" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # the CUDA libraries that were installed as packages, which no loader path names
    if provider.name == "TensorrtExecutionProvider":
        load_tensorrt()


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options for a session that shares its cores with others: threads that wait do not spin."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    for pool in ("intra_op", "inter_op"):
        options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def open_session(file: Path, provider: Provider, threads: int) -> onnxruntime.InferenceSession:
    """A graph that runs on `provider`, after `prepare`. Raises ArtifactError when the CPU cannot load it,
    EngineUnavailable when a GPU's provider does not start, or another would run what costs time in it.
    """
    chosen = [(one.name, one.options) for one in (provider, *provider.beside)]
    try:
        # A run that fails is not repeated on the CPU.
        session = onnxruntime.InferenceSession(file, session_options(threads), providers=chosen, enable_fallback=0)
    except Exception as error:
        if provider is CPU:
            raise ArtifactError(f"{file}: ONNX Runtime cannot load it ({error})") from error
        raise EngineUnavailable(
            f"{file}: {provider.name} cannot start or take it ({error}); check that nvidia-smi lists a GPU and that "
            "the libraries named here are installed: maskstream[gpu], see docs/export.md"
        ) from error
    running = session.get_providers()[0]
    if running != provider.name:
        raise EngineUnavailable(
            f"{provider.name} was asked for and {running} would have run: its libraries do not load here"
        )
    if provider is not CPU:
        refuse_work_on_the_cpu(session, provider, file)
    return session


def refuse_work_on_the_cpu(session: onnxruntime.InferenceSession, provider: Provider, file: Path) -> None:
    """Raises EngineUnavailable when the CPU got convolutions, products and the like; sums over shapes are its own.

    ONNX Runtime's own switch, session.disable_cpu_ep_fallback, is no help: it refuses those as well, and puts them on
    the CPU by itself in every graph whose shapes vary.
    """
    left = [
        f"{node.op_type} {node.name}"
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == CPU.name
        for node in part.get_nodes()
        if any(heavy in node.op_type for heavy in _HEAVY)
    ]
    if left:
        raise EngineUnavailable(
            f"{file}: {provider.name} leaves {len(left)} nodes to the CPU that cost time, the first of them {left[0]}; "
            "choose another engine, or another version of onnxruntime-gpu"
        )


def refuse_both_builds() -> None:
    """Both builds write the same package, and which one runs depends on the order of installation."""
    names = {str(found.metadata["Name"]).lower() for found in importlib.metadata.distributions()}
    if {"onnxruntime", "onnxruntime-gpu"} <= names:
        raise EngineUnavailable(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; uninstall both, "
            "then install one: maskstream[cpu] or maskstream[gpu]"
        )


def load_tensorrt() -> None:
    """Load the libraries that the TensorRT provider is linked to, from their package or from where the loader looks.

    Raises EngineUnavailable when they do not load, and names the TensorRT that is installed in their place.
    """
    package = importlib.util.find_spec("tensorrt_libs")
    folders = [Path(folder) for folder in package.submodule_search_locations or ()] if package else []
    for library in _TENSORRT_LIBRARIES:
        name = f"lib{library}.so.{TENSORRT_MAJOR}"
        found = next((folder / name for folder in folders if (folder / name).is_file()), Path(name))
        try:
            ctypes.CDLL(str(found), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise EngineUnavailable(
                f"ONNX Runtime's TensorRT provider needs TensorRT {TENSORRT_MAJOR}, and {name} does not load ({error})"
                f"{_other_tensorrt()}; pip install 'tensorrt>={TENSORRT_MAJOR},<{TENSORRT_MAJOR + 1}'"
            ) from error


def _other_tensorrt() -> str:
    try:
        return f"; tensorrt {importlib.metadata.version('tensorrt')} is installed"
    except importlib.metadata.PackageNotFoundError:
        return ""
