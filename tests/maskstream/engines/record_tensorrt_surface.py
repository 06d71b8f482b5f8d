"""Records what the Python bindings of TensorRT and CUDA offer, for test_tensorrt_surface.py. Run by hand for a version.

The bindings of full TensorRT are a small wheel, but link to libraries of gigabytes. To be looked at they need no more
than libraries of those names, so empty ones are made of their missing symbols (nm and gcc are needed):

    pip download --no-deps tensorrt-cu13-bindings==11.4.0.106, unpacked to DIR
    python tests/maskstream/engines/record_tensorrt_surface.py tensorrt_bindings DIR
    python tests/maskstream/engines/record_tensorrt_surface.py tensorrt_rtx
    python tests/maskstream/engines/record_tensorrt_surface.py cuda.bindings.runtime DIR
"""

import ctypes
import importlib
import inspect
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SURFACE = Path(__file__).with_name("tensorrt_surface.json")
CLASSES = (
    *(
        "Builder",
        "IBuilderConfig",
        "INetworkDefinition",
        "IOptimizationProfile",
        "ITensor",
        "OnnxParser",
        "ParserError",
    ),
    *("ICudaEngine", "IExecutionContext", "IRuntimeConfig", "ITimingCache", "Runtime", "ILogger"),
)
ENUMS = (
    *("BuilderFlag", "ComputeCapability", "CudaGraphStrategy", "HardwareCompatibilityLevel", "MemoryPoolType"),
    *("NetworkDefinitionCreationFlag", "TensorIOMode"),
)
FUNCTIONS = ("nptype",)
CUDA = (
    *("cudaGetDevice", "cudaGetDeviceProperties", "cudaGetErrorString", "cudaMalloc", "cudaMallocHost", "cudaFree"),
    *("cudaFreeHost", "cudaMemcpyAsync", "cudaMemcpyKind", "cudaStreamCreateWithFlags", "cudaStreamNonBlocking"),
    *("cudaStreamDestroy", "cudaStreamSynchronize", "cudaStreamBeginCapture", "cudaStreamEndCapture"),
    *("cudaStreamCaptureMode", "cudaGraphInstantiate", "cudaGraphLaunch", "cudaGraphDestroy", "cudaGraphExecDestroy"),
)
_SIGNATURE = re.compile(r"^(?:\d+\. )?(\w+)\((.*)\)(?: -> .*)?$", re.MULTILINE)


def main(module_name: str, folder: Path | None) -> None:
    if folder is not None:
        sys.path.insert(0, str(folder))
        for library in folder.glob("tensorrt_bindings/tensorrt.so"):
            load_empty_libraries(library)
    module = importlib.import_module(module_name)
    if module_name.startswith("cuda"):
        name, found = f"{module_name} {importlib.import_module('cuda.bindings').__version__}", cuda_surface(module)
    else:
        name, found = f"{module_name.removesuffix('_bindings')} {module.__version__}", tensorrt_surface(module)
    recorded = json.loads(SURFACE.read_text()) if SURFACE.exists() else {}
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in sorted({**recorded, name: found}.items()))
    SURFACE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def tensorrt_surface(module: Any) -> dict[str, Any]:
    """By class: parameters of each overload of a method, None for an attribute, True for a member of an enum."""
    enums = {name: dict.fromkeys(getattr(module, name).__members__, True) for name in ENUMS if hasattr(module, name)}
    return {
        **{name: members(getattr(module, name)) for name in CLASSES if hasattr(module, name)},
        **enums,
        **{name: [list(inspect.signature(getattr(module, name)).parameters)] for name in FUNCTIONS},
    }


def cuda_surface(module: Any) -> dict[str, Any]:
    """The functions, with their parameters, and the members of enums."""
    found: dict[str, Any] = {}
    for name in CUDA:
        value = getattr(module, name)
        enum = hasattr(value, "__members__")
        found[name] = dict.fromkeys(value.__members__, True) if enum else parameters(value)
    return found


def members(kind: Any) -> dict[str, Any]:
    names = [name for name in dir(kind) if not name.startswith("_") or name == "__init__"]
    return {name: parameters(getattr(kind, name)) for name in names}


def parameters(member: Any) -> list[list[str]] | None:
    """Of every overload, without self; "name=" has a default. None for what is not called."""
    if not callable(member):
        return None
    found = _SIGNATURE.findall(member.__doc__ or "")
    overloads = [split_parameters(text) for _, text in found if "*args" not in text]
    return [[name for name in one if name != "self"] for one in overloads]


def split_parameters(text: str) -> list[str]:
    """Names out of "self: A, min: B[C, D], int size, kind: E = <E.F: 0>"."""
    names, depth, part = [], 0, ""
    for letter in f"{text},":
        depth += {"[": 1, "(": 1, "<": 1, "]": -1, ")": -1, ">": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            if part.strip():
                typed, equals, _ = part.strip().partition("=")
                names.append(typed.split(":")[0].split()[-1] + equals)
            part = ""
        else:
            part += letter
    return names


def load_empty_libraries(bindings: Path) -> None:
    """Libraries of the names that `bindings` links to, with the symbols it misses; they do nothing."""
    needed = subprocess.run(["readelf", "-d", bindings], capture_output=True, text=True, check=True).stdout
    missing = subprocess.run(
        ["nm", "-D", "--undefined-only", bindings], capture_output=True, text=True, check=True
    ).stdout
    symbols = re.findall(r"\bU (\w+_INTERNAL|get\w+|initLibNvInferPlugins)\b", missing)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "empty.c"
        source.write_text(
            "".join(f"void {symbol}(void) {{}}\n" for symbol in symbols if not symbol.startswith("getenv"))
        )
        for name in re.findall(r"\[(libnv\w+\.so\.\d+)\]", needed):
            made = Path(scratch) / name
            subprocess.run(["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", made, source], check=True)
            ctypes.CDLL(str(made), mode=ctypes.RTLD_GLOBAL)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else None)
