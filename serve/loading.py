"""From an artifact on disk to a model that can be served; at the start, and again for each hot swap."""

import importlib.metadata

from maskstream.artifact import Artifact, default_artifact
from maskstream.engines import load_networks
from serve.config import ServeConfig
from serve.model import Model, identity_of


def load_model(config: ServeConfig) -> Model:
    """The artifact that `config` names, run by the engine that it names.

    A symbolic link is followed once: re-pointing it while this runs mixes nothing. Raises ArtifactError, and what the
    engine raises when it cannot be had.
    """
    folder = (config.artifact or default_artifact()).resolve()
    artifact = Artifact.load(folder)
    networks = load_networks(folder, config.engine, config.threads or None)
    return Model(networks, identity_of(networks, artifact.version, importlib.metadata.version("maskstream")))
