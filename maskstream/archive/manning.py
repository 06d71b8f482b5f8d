"""Who works on an archive: as many processes as this machine carries, or as many actors as a Ray cluster does."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from maskstream.archive.jobs import WorkSettings
from maskstream.archive.local_crew import LocalCrew
from maskstream.archive.machine_share import Share, free_bytes, share_machine, usable_cores
from maskstream.archive.supervisor import Crew
from maskstream.artifact import Artifact


@dataclass(frozen=True)
class Wanted:
    """What was asked for; None is for us to choose. `ray` is the address of a cluster, None for this machine."""

    artifact: Artifact
    engine: str
    workers: int | None
    threads: int | None
    sinks: tuple[str, ...]
    scratch: Path
    ray: str | None


@dataclass(frozen=True)
class Manned:
    """Workers that wait to be started."""

    crew: Crew
    share: Share
    engine: str


@contextmanager
def manned(wanted: Wanted, videos: int, tell: Callable[[str], None]) -> Iterator[Manned]:
    """A crew for so many videos. Raises EngineUnavailable, or WorkersFailed when there is no cluster."""
    from maskstream.engines import refuse_missing

    if wanted.engine != "auto":
        refuse_missing(wanted.engine)
    if wanted.ray is None:
        yield _local(wanted, videos, tell)
    else:
        # Ray prints what befalls workers on standard output, where results belong
        with redirect_stdout(sys.stderr), _on_cluster(wanted, wanted.ray, videos) as found:
            yield found


def _local(wanted: Wanted, videos: int, tell: Callable[[str], None]) -> Manned:
    """The engine is chosen here, once: workers that all try engines at the same time would measure each other."""
    from maskstream.engines import AUTO, choose_engine

    share = share_machine(usable_cores(), free_bytes(), videos, wanted.workers, wanted.threads)
    engine = choose_engine(wanted.artifact, share.threads, tell).engine if wanted.engine == AUTO else wanted.engine
    return Manned(LocalCrew(_settings(wanted, engine, share.threads), share.workers), share, engine)


@contextmanager
def _on_cluster(wanted: Wanted, address: str, videos: int) -> Iterator[Manned]:
    """Each node chooses its engine for itself, as nodes differ."""
    from maskstream.archive.ray_crew import RayCrew, cluster_cores, connect
    from maskstream.engines import ENGINES

    ray = connect(address)
    try:
        threads = wanted.threads or 1
        workers = wanted.workers or max(1, min(cluster_cores(ray) // threads, videos))
        known = ENGINES.get(wanted.engine.partition(":")[0])
        settings = _settings(wanted, wanted.engine, threads)
        crew = RayCrew(ray, settings, workers, gpus=1.0 if known is not None and known.gpu else 0.0)
        yield Manned(crew, Share(workers, threads), wanted.engine)
    finally:
        ray.shutdown()


def _settings(wanted: Wanted, engine: str, threads: int) -> WorkSettings:
    folder = wanted.artifact.folder.resolve()
    return WorkSettings(folder, engine, threads, wanted.sinks, wanted.scratch, version("maskstream"))
