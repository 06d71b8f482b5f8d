"""The programs of deploy/grafana, which are in no package."""

import importlib.util
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "grafana"


def grafana_program(name: str) -> ModuleType:
    """`deploy/grafana/NAME.py` as a module of its own."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
