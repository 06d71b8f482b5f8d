"""What our modules call exists in every TensorRT they are written for, though none of the full ones can be had here.

tensorrt_surface.json has what the real bindings offer (record_tensorrt_surface.py made it). All names are found in the
sources: `trt.X.Y`, and attributes of what the variables in OBJECTS hold. What one version lacks must stand behind a
feature check: `hasattr(trt, ...)`, for the names in CHECKED.
"""

import ast
import importlib.util
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fake_tensorrt import FakeContext, FakeCudart, FakeEngine

ROOT = Path(__file__).resolve().parents[3]
SOURCES = (
    "export/to_tensorrt.py",
    "maskstream/engines/cuda_runtime.py",
    "maskstream/engines/tensorrt_library.py",
    "maskstream/engines/tensorrt_networks.py",
)
OBJECTS = {  # class of what a variable or attribute of this name holds, throughout SOURCES
    "builder": "Builder",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "engine": "ICudaEngine",
    "network": "INetworkDefinition",
    "optimization": "IOptimizationProfile",
    "parser": "OnnxParser",
    "parser_error": "ParserError",
    "runtime": "Runtime",
    "tensor": "ITensor",
    "timing_cache": "ITimingCache",
}
RUNTIME_CONFIG = ("maskstream/engines/tensorrt_networks.py", "config")  # there it is an IRuntimeConfig
CHECKED = {  # what some versions lack -> the name that our code asks for with hasattr before
    "ComputeCapability": "ComputeCapability",
    "ComputeCapability.__members__": "ComputeCapability",
    "IBuilderConfig.num_compute_capabilities": "ComputeCapability",
    "IBuilderConfig.set_compute_capability": "ComputeCapability",
    "CudaGraphStrategy": "CudaGraphStrategy",
    "CudaGraphStrategy.WHOLE_GRAPH_CAPTURE": "CudaGraphStrategy",
    "IRuntimeConfig.cuda_graph_strategy": "CudaGraphStrategy",
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": "STRONGLY_TYPED",
}
OF_THE_MODULE = {"__name__", "__version__"}


class Use(NamedTuple):
    """A name of the library in our sources; how many arguments it is called with, None if it is not called there."""

    name: str
    arguments: int | None
    place: str


@cache
def surface() -> dict[str, dict[str, Any]]:
    return json.loads(Path(__file__).with_name("tensorrt_surface.json").read_text())  # type: ignore[no-any-return]


def versions(library: str) -> list[str]:
    found = [name for name in surface() if name.startswith(library)]
    assert found
    return found


@cache
def uses(source: str) -> tuple[Use, ...]:
    return tuple(uses_in(source, (ROOT / source).read_text()))


def uses_in(source: str, text: str) -> Iterator[Use]:
    tree = ast.parse(text)
    called = {
        id(node.func): len(node.args) + len(node.keywords) for node in ast.walk(tree) if isinstance(node, ast.Call)
    }
    starred = {
        id(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for a in node.args
        if isinstance(a, ast.Starred)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = library_name(source, node)
            if name is not None:
                arguments = None if id(node) in starred else called.get(id(node))
                yield Use(name, arguments, f"{source}:{node.lineno}")


def library_name(source: str, node: ast.Attribute) -> str | None:
    """ "X.Y" of the library for `trt.X.Y`, `builder.y`, `self._context.y`, `cudart.y`; None for what is ours."""
    owner = node.value
    if held_by(owner) in ("trt", "cudart"):
        return node.attr
    if isinstance(owner, ast.Attribute) and held_by(owner.value) in ("trt", "cudart"):
        return f"{owner.attr}.{node.attr}"
    kind = "IRuntimeConfig" if (source, held_by(owner)) == RUNTIME_CONFIG else OBJECTS.get(held_by(owner))
    return f"{kind}.{node.attr}" if kind else None


def held_by(node: ast.expr) -> str:
    """The bare name of a variable or of an attribute of self or of a record: "context" for `self._context`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "build"):
        return node.attr.lstrip("_")
    return ""


def problem(use: Use, offered: dict[str, Any]) -> str | None:
    """What is wrong with a use, if the library offers this."""
    first, _, member = use.name.partition(".")
    if first in OF_THE_MODULE or use.name.endswith(".__init__"):
        return None
    if first not in offered:
        return None if CHECKED.get(use.name) == first else f"{use.place}: no {first}"
    found = offered[first]
    if member and member != "__members__":
        if member not in found:
            return None if use.name in CHECKED else f"{use.place}: no {use.name}"
        found = found[member]
    elif use.arguments is not None and isinstance(found, dict):
        found = found["__init__"]
    if use.arguments is None or found is None:
        return None
    if not any(takes(overload, use.arguments) for overload in found):
        return f"{use.place}: {use.name} called with {use.arguments} arguments, takes {found}"
    return None


def takes(overload: list[str], arguments: int) -> bool:
    needed = [name for name in overload if not name.endswith("=")]
    return len(needed) <= arguments <= len(overload)


@pytest.mark.parametrize("version", versions("tensorrt"))
@pytest.mark.parametrize("source", SOURCES)
def test_every_name_of_tensorrt_exists(source: str, version: str) -> None:
    found = [use for use in uses(source) if not use.name.startswith("cuda")]
    assert [wrong for use in found if (wrong := problem(use, surface()[version]))] == []


@pytest.mark.parametrize("version", versions("cuda"))
def test_every_name_of_cuda_exists(version: str) -> None:
    found = [use for use in uses("maskstream/engines/cuda_runtime.py") if use.name.startswith("cuda")]
    assert len({use.name for use in found}) > 15
    assert [wrong for use in found if (wrong := problem(use, surface()[version]))] == []


@pytest.mark.parametrize("version", versions("tensorrt"))
def test_what_is_behind_a_check_is_there_when_the_check_says_so(version: str) -> None:
    offered = surface()[version]
    asked = {call for source in SOURCES for call in hasattr_names(source)}
    for name, guard in CHECKED.items():
        assert guard in asked, f"nothing asks for {guard}"
        kind, _, member = name.partition(".")
        if guard in offered and member != "__members__":
            assert kind in offered
            assert not member or member in offered[kind]


def hasattr_names(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / source).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hasattr":
            asked = node.args[1]
            if isinstance(asked, ast.Constant):
                yield str(asked.value)


def test_the_sources_are_seen() -> None:
    """The search itself: an empty one would find nothing wrong."""
    names = {use.name for source in SOURCES for use in uses(source)}
    assert {
        "Builder.build_serialized_network",
        "BuilderFlag.TF32",
        "IBuilderConfig.clear_flag",
        "IExecutionContext.execute_async_v3",
        "IRuntimeConfig.cuda_graph_strategy",
        "Runtime.deserialize_cuda_engine",
        "cudaMemcpyAsync",
        "cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal",
    } <= names


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("trt.BuilderFlag.FP16", "no BuilderFlag.FP16"),
        ("trt.IInt8Calibrator", "no IInt8Calibrator"),
        ("context.execute_async_v2([], 0)", "no IExecutionContext.execute_async_v2"),
        ("self._context.execute_async_v3()", "execute_async_v3 called with 0 arguments, takes [['stream_handle']]"),
    ],
)
def test_a_name_that_is_gone_is_found(line: str, told: str) -> None:
    (wrong,) = {problem(use, surface()["tensorrt 11.4.0.106"]) for use in uses_in("x.py", line)} - {None}
    assert wrong is not None
    assert wrong.endswith(told)


@pytest.mark.parametrize(("double", "kind"), [(FakeContext, "IExecutionContext"), (FakeEngine, "ICudaEngine")])
@pytest.mark.parametrize("version", versions("tensorrt"))
def test_the_doubles_have_no_method_that_the_real_ones_lack(version: str, double: type, kind: str) -> None:
    methods = {name for name in vars(double) if not name.startswith("_")} - {"port"}
    assert methods <= surface()[version][kind].keys()


@pytest.mark.parametrize("version", versions("cuda"))
def test_the_double_of_cuda_has_no_call_that_the_real_one_lacks(version: str) -> None:
    calls = {name.removeprefix("do_") for name in vars(FakeCudart) if name.startswith("do_")}
    assert calls <= surface()[version].keys()


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")
def test_the_installed_rtx_offers_what_was_recorded() -> None:
    import tensorrt_rtx

    recorded = surface()["tensorrt_rtx 1.7.1.116"]
    lacking = {
        f"{kind}.{member}"
        for kind, members in recorded.items()
        if isinstance(members, dict)
        for member in members
        if not hasattr(getattr(tensorrt_rtx, kind), member)
    }
    used = {use.name for source in SOURCES for use in uses(source)}
    assert lacking & used == set()
