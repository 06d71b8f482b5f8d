"""The locks: exact, in step with pyproject.toml and with each other, and silent about where packages come from."""

import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROFILES = {
    "dev": ("train", "export", "serve", "cpu", "web", "ray", "plot", "docs", "dev"),
    "train": ("train", "export", "cpu"),
    "serve-cpu": ("serve", "cpu", "web"),
    "serve-gpu": ("serve", "gpu", "web"),
}
PIN = re.compile(r"([a-z0-9.-]+)==([0-9][0-9a-z.!]*)")


@cache
def lock(profile: str) -> dict[str, str]:
    """Version by package name. Any other line than a pin or the first comment is an error."""
    first, *lines = (ROOT / "requirements" / f"{profile}.lock").read_text().splitlines()
    assert first == "# made by: make locks"
    pins = [PIN.fullmatch(line) for line in lines]
    assert [line for line, pin in zip(lines, pins, strict=True) if not pin] == [], "not an exact, plain pin"
    return {canonicalize_name(pin[1]): pin[2] for pin in pins if pin}


def requirements(profile: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for extra in PROFILES[profile] for line in project["optional-dependencies"][extra]]
    return [Requirement(line) for line in [*project["dependencies"], *extras]]


@pytest.mark.parametrize("profile", PROFILES)
def test_lock_holds_what_pyproject_asks_for(profile: str) -> None:
    pins = lock(profile)
    unmet = [
        str(wanted)
        for wanted in requirements(profile)
        if not wanted.specifier.contains(pins.get(canonicalize_name(wanted.name), "0"), prereleases=True)
    ]
    assert unmet == [], "make locks"


@pytest.mark.parametrize("profile", ["train", "serve-cpu"])
def test_smaller_environments_grow_into_the_development_one(profile: str) -> None:
    larger = lock("dev")
    assert {name: version for name, version in lock(profile).items() if larger.get(name) != version} == {}


@pytest.mark.parametrize("profile", ["serve-cpu", "serve-gpu"])
def test_serving_installs_no_torch(profile: str) -> None:
    assert not {"torch", "torchvision", "tensorboard", "onnx", "onnxscript"} & lock(profile).keys()


@pytest.mark.parametrize("profile", PROFILES)
def test_one_onnxruntime_per_environment(profile: str) -> None:
    # both write the same package: the last one installed wins, and pip does not notice
    assert len({"onnxruntime", "onnxruntime-gpu"} & lock(profile).keys()) == 1


@pytest.mark.parametrize("profile", ["dev", "train"])
def test_torch_is_pinned_by_release_and_names_no_build(profile: str) -> None:
    assert lock(profile)["torch"] == "2.13.0"


def test_every_range_has_an_upper_end() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    assert [line for line in lines if not re.search(r">=.*,<", line)] == []
