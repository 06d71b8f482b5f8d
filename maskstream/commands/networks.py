"""The networks a command works with: the shipped artifact, another one, or a checkpoint by torch."""

import argparse
import sys
from pathlib import Path

from maskstream.errors import CheckpointError
from maskstream.networks import Networks


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """--artifact and --engine."""
    parser.add_argument(
        "--artifact", metavar="DIR", type=Path, help="what maskstream-export wrote (default: the shipped one)"
    )
    parser.add_argument(
        "--engine",
        metavar="NAME",
        default="auto",
        help="what runs the networks (default: auto, the fastest that is installed; see docs/export.md)",
    )


def artifact_of(arguments: argparse.Namespace) -> Path:
    """The artifact asked for, else the shipped one."""
    from maskstream.artifact import default_artifact

    chosen: Path | None = arguments.artifact
    return chosen or default_artifact()


def networks_from(arguments: argparse.Namespace) -> Networks:
    """Networks of --checkpoint, where a command has it and it is given, else of --artifact.

    Raises ArtifactError, CheckpointError or another MaskstreamError that says what is missing.
    """
    checkpoint: Path | None = getattr(arguments, "checkpoint", None)
    if checkpoint is not None:
        return _torch_networks(checkpoint)
    from maskstream.engines import load_networks

    tell = _say_nothing if getattr(arguments, "quiet", False) else _tell
    return load_networks(artifact_of(arguments), arguments.engine, tell=tell)


def describe(networks: Networks) -> str:
    """One line on what runs."""
    return f"{networks.spec.name}, engine {networks.engine}, {networks.precision}"


def _say_nothing(_: str) -> None:
    """For --quiet."""


def _tell(line: str) -> None:
    """What "auto" does and why: beside the results, not among them."""
    print(line, file=sys.stderr, flush=True)


def _torch_networks(checkpoint: Path) -> Networks:
    try:
        from maskstream.checkpoint import Checkpoint
        from maskstream.engines.torch_networks import TorchNetworks
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"{checkpoint}: a checkpoint needs {error.name}; install maskstream[train], or export it and use --artifact"
        ) from error
    return TorchNetworks(Checkpoint.load(checkpoint).segmenter())
