"""Finding TensorRT and listening to it."""

import sys
from types import SimpleNamespace

import pytest
from fake_tensorrt import FakeCudart, fake_tensorrt

from maskstream.engine_sidecar import Machine
from maskstream.engines.cuda_runtime import Cuda
from maskstream.engines.tensorrt_library import Messages, import_tensorrt, library_log, running_machine
from maskstream.errors import EngineUnavailable


@pytest.mark.parametrize(
    ("flavour", "packages"),
    [("tensorrt", r"'maskstream\[tensorrt\]'"), ("tensorrt_rtx", r"'maskstream\[rtx\]'")],
)
def test_a_library_that_is_not_installed_names_what_to_install(
    flavour: str, packages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, flavour, None)
    with pytest.raises(EngineUnavailable, match=rf"{flavour} cannot be imported .*; pip install {packages}$"):
        import_tensorrt(flavour)


def test_the_machine_is_library_and_gpu() -> None:
    cudart = FakeCudart([])
    trt = fake_tensorrt(cudart, {})
    assert running_machine(trt, None) == Machine("tensorrt", "10.16.1.11")
    found = running_machine(trt, Cuda(cudart))
    assert (found.gpu, found.compute_capability) == ("Some GPU", "8.9")


def test_errors_are_kept_sizes_are_noted_and_warnings_logged(caplog: pytest.LogCaptureFixture) -> None:
    messages = Messages()
    logger = library_log(fake_tensorrt(FakeCudart([]), {}), messages)
    assert messages.told() == "the library gave no reason"
    for severity in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"):
        logger.log(SimpleNamespace(name=severity), f"{severity}\n  in two lines")
    assert messages.told() == "INTERNAL_ERROR in two lines; ERROR in two lines"
    assert list(messages.notes) == ["INFO\n  in two lines"]
    assert [(record.levelname, record.message) for record in caplog.records] == [("WARNING", "WARNING\n  in two lines")]
