"""The shape of the repository: what no compiler checks and every reader relies on.

Names are owned, files and functions stay small, serving needs no torch, nothing happens at import, and no file says
where packages come from.
"""

import ast
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("maskstream", "train", "export", "serve")
LONGEST_FILE, LONGEST_FUNCTION = 400, 60  # lines
GENERATED = "maskstream/v1/"
VAGUE = {"common", "handler", "helpers", "manager", "misc", "util", "utils"}
# In pieces, or this file would name what it forbids.
INDEX_HOSTS = re.compile(
    "|".join(("py" + r"pi\.org", "python" + "hosted", r"download\.py" + "torch", "(?<!emit-)index-" + "url"))
)


@cache
def repository_files() -> list[Path]:
    """Files under version control, and those that would be; outside a git checkout all but what tools leave behind."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode == 0:
        return sorted({path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()})
    left_behind = {".venv", ".git", "out", "runs", "build", "dist"}
    return sorted(p for p in ROOT.rglob("*") if p.is_file() and not left_behind & set(p.relative_to(ROOT).parts))


def python_files(generated: bool = False) -> list[Path]:
    files = [path for path in repository_files() if path.suffix == ".py"]
    return [path for path in files if generated or not name_of(path).startswith(GENERATED)]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_names(*packages: str) -> list[str]:
    sources = [p for p in python_files(generated=True) if p.relative_to(ROOT).parts[0] in packages]
    dotted = (p.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for p in sources)
    return sorted(name.removesuffix(".__init__") for name in dotted)


def project() -> dict[str, Any]:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert isinstance(table, dict)
    return table


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_distribution_ships_our_import_names(package: str) -> None:
    # `train` and the like are generic: a second owner would overwrite ours in silence
    assert packages_distributions().get(package, ["maskstream"]) == ["maskstream"]
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None


def test_the_distribution_cannot_be_uploaded_by_accident() -> None:
    assert "Private :: Do Not Upload" in project()["classifiers"]


def test_files_stay_short() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in python_files()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_functions_stay_short() -> None:
    too_long = {}
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    too_long[f"{name_of(path)}:{node.lineno} {node.name}"] = lines
    assert too_long == {}


def test_every_file_says_what_it_is() -> None:
    sources = [path for path in python_files() if path.read_text().strip() and path.name != "__init__.py"]
    assert [name_of(path) for path in sources if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_python_is_plain_ascii() -> None:
    assert [name_of(path) for path in python_files(generated=True) if not path.read_bytes().isascii()] == []


def test_no_module_is_named_after_a_library_or_after_nothing() -> None:
    # run as a file, a module shadows the library it is named after; tools that no module imports do not matter
    locks = [(ROOT / "requirements" / f"{profile}.lock").read_text() for profile in ("train", "serve-cpu")]
    used = set(re.findall(r"^([a-z0-9.-]+)==", "".join(locks), re.MULTILINE))
    owners = packages_distributions().items()
    libraries = {name for name, dists in owners if used & {owner.lower().replace("_", "-") for owner in dists}}
    taken = libraries | sys.stdlib_module_names | VAGUE
    modules = {path for path in python_files() if path.relative_to(ROOT).parts[0] in PACKAGES}
    assert sorted(name_of(path) for path in modules if path.stem in taken - {"__init__", "__main__"}) == []


def imported_alone(modules: list[str], blocked: list[str]) -> subprocess.CompletedProcess[str]:
    """Import `modules` in a fresh interpreter in which `blocked` packages do not exist."""
    program = f"""
import importlib, importlib.abc, json, sys, threading
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r} or name in {blocked!r}:
            raise ImportError(f"{{name}} is not there")
sys.meta_path.insert(0, Blocker())
failed = {{}}
for module in {modules!r}:
    try:
        importlib.import_module(module)
    except ImportError as error:
        failed[module] = str(error)
print(json.dumps({{"failed": failed, "threads": threading.active_count()}}))
"""
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)


def test_serving_and_client_import_without_torch() -> None:
    modules = [*module_names("serve"), "maskstream.client", "maskstream.client_async"]
    done = imported_alone(
        modules, ["torch", "tensorboard", "onnx", "onnxscript", "maskstream.model", "train", "export"]
    )
    assert json.loads(done.stdout)["failed"] == {}


def test_only_the_model_and_the_torch_engine_need_torch_to_be_imported() -> None:
    needs_torch = ("maskstream.model", "maskstream.engines.torch_")
    done = imported_alone([name for name in module_names("maskstream") if not name.startswith(needs_torch)], ["torch"])
    assert json.loads(done.stdout)["failed"] == {}


def test_nothing_happens_at_import() -> None:
    done = imported_alone([name for name in module_names(*PACKAGES) if not name.endswith("__main__")], [])
    assert done.stdout.count("\n") == 1, "a module prints when it is imported"
    assert done.stderr == ""
    assert json.loads(done.stdout) == {"failed": {}, "threads": 1}


def test_no_package_index_is_named() -> None:
    small = [path for path in repository_files() if path.stat().st_size < 2**20]
    texts = {name_of(path): path.read_text(errors="ignore") for path in small}
    assert [name for name, text in texts.items() if INDEX_HOSTS.search(text)] == []


def test_changelog_and_package_agree_on_the_version() -> None:
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == project()["version"]
