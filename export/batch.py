"""Batch export: one checkpoint, the builds of a targets.toml, and a folder that can be gone on with at any time.

    DIR/onnx-fp32/artifact   the graphs of a precision; every engine that runs graphs is checked on these
    DIR/NAME/result.json     each build, with its own artifact/ where an engine was built for it
    DIR/report.json, .md     all of them

A build that fails says why and does not stop the others. What was finished under the same key (checkpoint, settings,
versions of maskstream and of the libraries that made it) is kept by the next run, all else is made anew; a build that
was cut short left no result. What can only be built on a GPU is left for a machine that has one, and is no failure.
Whoever checks a folder that came from elsewhere may lack torch, so torch is imported where a build needs it.
"""

import importlib
import importlib.util
import shutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from export.batch_report import (
    BUILT,
    FAILED,
    FINISHED,
    NEEDS_GPU,
    PASSED,
    REPORT,
    BatchReport,
    Result,
    View,
    kept_result,
    parity_figures,
    read_report,
    write_result,
)
from export.targets import BUILT_ENGINES, GRAPH_LIBRARIES, LIBRARIES, PORTABLE_ENGINES, Build
from export.verify import Case, ClipCheck, ParityReport, case_of, cases, compare_with_figures, verify
from maskstream.artifact import MANIFEST, Artifact, sha256_of
from maskstream.checkpoint import Checkpoint
from maskstream.engine_sidecar import ENGINE_SUFFIX, EngineSidecar, sidecar_file
from maskstream.engines import AUTO, OF_VARIANTS, auto_candidates, load_networks
from maskstream.engines.cuda_runtime import driver_version
from maskstream.errors import ArtifactError, EngineUnavailable, MaskstreamError
from maskstream.networks import Networks, NetworkSpec
from maskstream.provenance import installed, provenance

Builder = Callable[[dict[str, Path], Path, Build], None]  # (ONNX file of each graph, empty folder to fill, build)

ARTIFACT = "artifact"  # the folder in a build's folder
_TORCH, _MANIFEST = "torch", "the figures that torch left in the manifest"


class BatchError(MaskstreamError):
    """A batch, or a build of it, that cannot go on."""

    reason = "BATCH_FAILED"


class NeedsGpu(MaskstreamError):
    """A build that a machine without a GPU cannot make."""

    reason = "NEEDS_GPU"


def tensorrt_builder(onnx_files: dict[str, Path], out: Path, build: Build) -> None:
    """A `Builder`: TensorRT engines, by the module that is written for it."""
    importlib.import_module("export.to_tensorrt").build_engines(onnx_files, out, build)


BUILDERS: Mapping[str, Builder] = dict.fromkeys(BUILT_ENGINES, tensorrt_builder)


@dataclass(frozen=True)
class Outcome:
    """What a step made: the artifact, what its engine computes in, and how it compares (None: it does not run here)."""

    artifact: Path
    precision: str
    parity: ParityReport | None
    why_not_compared: str = ""


@dataclass(frozen=True)
class Step:
    """One row of the report: the graphs of a precision, or a build."""

    name: str
    settings: dict[str, Any]
    libraries: tuple[str, ...]  # whose versions decide the outcome
    count: int  # how often `make` calls what it is given
    make: Callable[[Path, Callable[[], None]], Outcome]


class Batch:
    """All that is to be made of one checkpoint, in the folder `out`."""

    def __init__(
        self,
        checkpoint_file: Path,
        builds: Sequence[Build],
        out: Path,
        builders: Mapping[str, Builder] = BUILDERS,
        calibration: Sequence[Path] = (),
    ) -> None:
        """`calibration` has the videos that int8 sees. Raises CheckpointError, or BatchError for a foreign `out`."""
        _refuse_foreign(out)
        self._out, self._builders, self._calibration = out, builders, calibration
        self._checkpoint_file, self._checkpoint = checkpoint_file, Checkpoint.load(checkpoint_file)
        self._made_from = {"maskstream": version("maskstream"), "checkpoint": sha256_of(checkpoint_file)}
        self._spec = self._checkpoint.config.spec()
        graphs = [self._graphs_step(precision) for precision in dict.fromkeys(build.precision for build in builds)]
        self._steps = [*graphs, *(self._step(build) for build in builds)]
        rows = [Result(step.name, step.settings) for step in self._steps]
        record = {"file": checkpoint_file.name, "sha256": self._made_from["checkpoint"]}
        self.report = BatchReport(out, {"model": self._spec.name, "checkpoint": record, **provenance()}, rows)

    def run(self, view: View) -> None:
        """Make what is not there yet. The report is up to date after each build, whatever ends this early."""
        self._out.mkdir(parents=True, exist_ok=True)
        for place, step in enumerate(self._steps):
            self.report.results[place] = self._kept(step) or self.report.results[place]
        self.report.write()
        for place, step in enumerate(self._steps):
            view.begin(place, step.count)
            # A result kept may rest on graphs that this run had to make anew.
            self.report.results[place] = self._kept(step) or self._made(step, view)
            self.report.write()
            view.end()

    def _kept(self, step: Step) -> Result | None:
        result = kept_result(self._out / step.name, self._key(step))
        if result is None:
            return None
        try:
            same = Artifact.load(self._out / result.artifact).version == result.artifact_version
        except ArtifactError:
            return None
        return result if same else None

    def _key(self, step: Step) -> dict[str, Any]:
        return {**self._made_from, "libraries": installed(step.libraries), "settings": step.settings}

    def _made(self, step: Step, view: View) -> Result:
        """The outcome of a step, good or bad; what an earlier one left is removed first."""
        folder = self._out / step.name
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        started = time.monotonic()
        result = Result(step.name, step.settings)
        try:
            outcome = _guarded(step, folder, view)
            result = self._described(result, outcome)
        except NeedsGpu as error:
            result = replace(result, status=NEEDS_GPU, error=str(error))
        except MaskstreamError as error:
            result = replace(result, status=FAILED, error=str(error))
        result = replace(result, seconds=round(time.monotonic() - started, 2))
        write_result(folder, self._key(step), result)
        return result

    def _described(self, result: Result, outcome: Outcome) -> Result:
        artifact = Artifact.load(outcome.artifact)
        return replace(
            result,
            status=PASSED if outcome.parity else BUILT,
            artifact=outcome.artifact.relative_to(self._out).as_posix(),
            artifact_version=artifact.version,
            precision=outcome.precision,
            bytes=sum(file.stat().st_size for file in outcome.artifact.iterdir()),
            parity=parity_figures(outcome.parity) if outcome.parity else None,
            error=outcome.why_not_compared,
        )

    def _graphs_step(self, precision: str) -> Step:
        from export.build import build_artifact, count_steps

        def make(folder: Path, done: Callable[[], None]) -> Outcome:
            artifact = folder / ARTIFACT
            report = build_artifact(
                self._checkpoint_file, self._checkpoint, artifact, precision, done, self._calibration
            )
            return Outcome(artifact, precision, report)

        settings: dict[str, Any] = {"precision": precision}
        if precision == "int8":
            settings["calibration"] = [str(path) for path in self._calibration]
        return Step(_graphs_name(precision), settings, GRAPH_LIBRARIES, count_steps(self._spec, precision), make)

    def _step(self, build: Build) -> Step:
        chosen, _ = checks_of(build, self._spec)
        make = self._with_built_engine if build.engine in BUILT_ENGINES else self._with_graph_engine
        count, libraries = len(chosen) + 1, (*GRAPH_LIBRARIES, *LIBRARIES[build.engine])
        return Step(build.name, build.settings(), libraries, count, lambda folder, done: make(build, folder, done))

    def _with_graph_engine(self, build: Build, folder: Path, done: Callable[[], None]) -> Outcome:
        """An engine that runs the graphs as they are has nothing to build: it is held to torch."""
        artifact = self._graphs(build.precision).folder
        return self._compared(artifact, load_networks(artifact, build.engine), build, done)

    def _with_built_engine(self, build: Build, folder: Path, done: Callable[[], None]) -> Outcome:
        from export.build import add_engine

        found: list[Outcome] = []

        def check(made: Path) -> None:
            outcome = self._compared_if_possible(made, build, done)
            if outcome.parity is not None:
                _record_iou(made, outcome.parity.mask_iou_least)
            found.append(outcome)

        def make(onnx_files: dict[str, Path], out: Path) -> None:
            self._builders[build.engine](onnx_files, out, build)

        source = self._graphs(build.precision)
        try:
            add_engine(source, folder / ARTIFACT, build.settings(), make, check)
        except EngineUnavailable as error:
            if build.engine in PORTABLE_ENGINES or gpu_is_here():
                raise
            raise NeedsGpu(f"left for a machine with a GPU; the same command goes on there ({error})") from error
        return replace(found[0], artifact=folder / ARTIFACT)

    def _compared_if_possible(self, artifact: Path, build: Build, done: Callable[[], None]) -> Outcome:
        """An engine may be built for another machine than this one; then that one must check it."""
        try:
            networks = load_networks(artifact, build.engine)
        except EngineUnavailable as error:
            if build.engine not in PORTABLE_ENGINES:
                raise
            return Outcome(artifact, build.precision, None, f"built, but not compared with torch here: {error}")
        return self._compared(artifact, networks, build, done)

    def _compared(self, artifact: Path, networks: Networks, build: Build, done: Callable[[], None]) -> Outcome:
        chosen, clip = checks_of(build, self._spec)
        precision = _held_to(networks, build.precision)
        return Outcome(artifact, networks.precision, verify(self._reference, networks, precision, done, chosen, clip))

    def _graphs(self, precision: str) -> Artifact:
        name = _graphs_name(precision)
        made = next(result for result in self.report.results if result.name == name)
        if made.status not in FINISHED:
            raise BatchError(f"it needs the graphs in {precision}, which failed; see {name}")
        return Artifact.load(self._out / made.artifact)

    @cached_property
    def _reference(self) -> Networks:
        from maskstream.engines.torch_networks import TorchNetworks

        return TorchNetworks(self._checkpoint.segmenter())


@dataclass(frozen=True)
class Held:
    """One artifact and its engine, checked again. `against` says what it was compared with."""

    name: str
    engine: str
    against: str = ""
    parity: dict[str, Any] | None = None
    error: str = ""


@dataclass(frozen=True)
class Claim:
    """An artifact that is said to be whole and to compute what torch does."""

    name: str
    artifact: Path
    engine: str
    build: Build | None = None
    version: str = ""  # of the artifact's content, when it is known what it should be

    def check(self, done: Callable[[], None]) -> Held:
        """Every file's hash, then what the engine computes. What is wrong is in `error`."""
        held = Held(self.name, self.engine)
        try:
            artifact = Artifact.load(self.artifact)
            if self.version and artifact.version != self.version:
                raise ArtifactError(f"{self.artifact}: not the artifact that the report is about; run the batch again")
            networks = load_networks(self.artifact, self.engine)
            held = replace(held, engine=f"{networks.engine} {networks.precision}")
            return _compared_again(held, self, artifact, networks, done)
        except MaskstreamError as error:
            return replace(held, error=str(error))


def claims(folder: Path, engine: str = AUTO) -> list[Claim]:
    """What an artifact folder, or the folder of a batch, claims; `engine` replaces the one that graphs are run by.

    Raises ArtifactError when `folder` is neither, or nothing in it was finished.
    """
    if (folder / MANIFEST).is_file():
        return _claims_of_artifact(folder, engine)
    if not (folder / REPORT).is_file():
        raise ArtifactError(f"{folder}: neither an artifact ({MANIFEST}) nor a batch ({REPORT}); nothing to check")
    finished = [result for result in read_report(folder) if result.status in FINISHED]
    if not finished:
        raise ArtifactError(f"{folder}: none of its builds was finished; nothing to check")
    return [_claim(folder, result, engine) for result in finished]


def _claims_of_artifact(folder: Path, engine: str) -> list[Claim]:
    """One for each precision that it holds, where the engine can run them."""
    name = auto_candidates()[0] if engine == AUTO else engine
    try:
        others = Artifact.load(folder).precisions[1:] if name in OF_VARIANTS else ()
    except ArtifactError:  # which the check will say
        others = ()
    return [
        Claim(str(folder), folder, name),
        *(Claim(f"{folder} {other}", folder, f"{name}:{other}") for other in others),
    ]


def unfinished(folder: Path) -> list[str]:
    """Names of the builds of a batch that failed or were not begun: there is nothing of them to check."""
    if not (folder / REPORT).is_file():
        return []
    return [result.name for result in read_report(folder) if result.status not in FINISHED]


def checks_of(build: Build | None, spec: NetworkSpec) -> tuple[Sequence[Case], ClipCheck]:
    """The cases and the clip that a build is checked on: at its size and with its objects, if it names a size."""
    if build is None or build.size is None:
        return cases(spec), ClipCheck()
    return (case_of(spec, build.size, build.objects, build.streams),), ClipCheck(build.size, build.objects)


def _compared_again(held: Held, claim: Claim, artifact: Artifact, networks: Networks, done: Callable[[], None]) -> Held:
    precision = _held_to(networks, artifact.precision)
    if torch_is_installed():
        chosen, clip = checks_of(claim.build, artifact.spec)
        report = verify(load_networks(claim.artifact, "torch"), networks, precision, done, chosen, clip)
        return replace(held, against=_TORCH, parity=parity_figures(report))
    recorded = artifact.manifest.get("parity", {}).get("torch")
    if not recorded:
        raise ArtifactError(f"{claim.artifact}: torch is not installed and its manifest has no figures of torch's")
    rows = compare_with_figures(recorded, networks, precision)
    worst = {"relative_error": max(row.relative_error for row in rows), "cosine": min(row.cosine for row in rows)}
    return replace(held, against=_MANIFEST, parity=worst)


def gpu_is_here() -> bool:
    """Whether the machine has an NVIDIA GPU that its driver knows."""
    return driver_version() is not None or bool(provenance()["hardware"]["gpus"])


def torch_is_installed() -> bool:
    """Whether networks can be compared with torch itself."""
    return importlib.util.find_spec("torch") is not None


def _claim(folder: Path, result: Result, engine: str) -> Claim:
    build = Build.of_settings(result.settings) if "engine" in result.settings else None
    own = build.engine if build else AUTO
    chosen = own if engine == AUTO or own in BUILT_ENGINES else engine
    return Claim(result.name, folder / result.artifact, chosen, build, result.artifact_version)


def _record_iou(folder: Path, mask_iou: float) -> None:
    """Write into the records of the folder's engines how their masks compare with torch's."""
    for engine in folder.glob(f"*{ENGINE_SUFFIX}"):
        if sidecar_file(engine).is_file():
            EngineSidecar.read(engine).measured(mask_iou).write(engine)


def _held_to(networks: Networks, graphs: str) -> str:
    """The coarser precision of graphs and engine: an engine may call itself fp32 and run graphs that are not."""
    return networks.precision if graphs == "fp32" else graphs


def _guarded(step: Step, folder: Path, view: View) -> Outcome:
    """Whatever a library raises in one build must not end the others; its traceback is kept beside the result."""
    try:
        return step.make(folder, view.step)
    except MaskstreamError:
        raise
    except Exception as error:
        (folder / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
        raise BatchError(f"{type(error).__name__}: {error}") from error


def _graphs_name(precision: str) -> str:
    return f"onnx-{precision}"


def _refuse_foreign(out: Path) -> None:
    """A batch removes and replaces folders in its own; it does not start in anybody else's."""
    if (out / REPORT).is_file():
        read_report(out)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BatchError(f"{out}: exists and is no batch; choose another --out or remove it first")
