"""The builder of full TensorRT, whose libraries cannot be had everywhere: a double that notes what it was told.

One input, `x` of shape [B, 3, 2*h]; a plan holds what decided it. test_tensorrt_surface.py holds the names to the
real libraries.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
from fake_tensorrt import Module


class FakeConfig:
    """`told` has all calls, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.timings = b""
        self.accepts_timings = True
        self.hardware_compatibility_level = "none"
        self.builder_optimization_level = 3

    def clear_flag(self, flag: str) -> None:
        self.told.append(("clear_flag", flag))

    def set_flag(self, flag: str) -> None:
        self.told.append(("set_flag", flag))

    def set_memory_pool_limit(self, pool: str, pool_size: int) -> None:
        self.told.append(("set_memory_pool_limit", pool, pool_size))

    def add_optimization_profile(self, profile: Any) -> int:
        self.told.append(("profile", profile.shapes))
        return 0

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        return SimpleNamespace(content=serialized_timing_cache)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        if cache.content.startswith(b"foreign"):
            return False
        self.timings = cache.content
        return True

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: self.timings + b"+timed")


class FakeProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Any, ...]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self.shapes[input] = (min, opt, max)


def fake_full_tensorrt(version: str = "10.16.1.11", explicit: bool = True) -> Any:
    """The module `tensorrt`. `configs` collects the configurations; `flags` those that networks were created with."""
    configs: list[FakeConfig] = []
    flags: list[int] = []

    class ILogger:
        pass

    class Builder:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def create_network(self, flag: int = 0) -> Any:
            flags.append(flag)
            tensor = SimpleNamespace(name="x", shape=(-1, 3, -1), get_dimension_name=("B", "", "2*h").__getitem__)
            return SimpleNamespace(num_inputs=1, get_input=lambda index: tensor)

        def create_builder_config(self) -> FakeConfig:
            configs.append(FakeConfig())
            return configs[-1]

        def create_optimization_profile(self) -> FakeProfile:
            return FakeProfile()

        def build_serialized_network(self, network: Any, config: FakeConfig) -> Any:
            self.logger.log(SimpleNamespace(name="INFO"), "Total Activation Memory: 4096 bytes")
            return np.frombuffer(b"plan", np.uint8)

    class OnnxParser:
        num_errors = 0

        def __init__(self, network: Any, logger: Any) -> None:
            pass

        def parse_from_file(self, model: str) -> bool:
            return True

    creation = SimpleNamespace(STRONGLY_TYPED=1) if explicit else SimpleNamespace()
    return Module(
        __name__="tensorrt",
        __version__=version,
        ILogger=ILogger,
        Builder=Builder,
        OnnxParser=OnnxParser,
        BuilderFlag=SimpleNamespace(TF32="TF32", VERSION_COMPATIBLE="VERSION_COMPATIBLE"),
        HardwareCompatibilityLevel=SimpleNamespace(NONE="none", AMPERE_PLUS="ampere"),
        MemoryPoolType=SimpleNamespace(WORKSPACE="WORKSPACE"),
        NetworkDefinitionCreationFlag=creation,
        configs=configs,
        flags=flags,
    )
