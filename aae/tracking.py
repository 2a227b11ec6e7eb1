"""MLflow: where the store is, and what a run holds.

``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME`` are honoured. Without them the store is
`mlflow.db` and `mlartifacts/` in the root of the repository, and the experiment is called `aae`.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray

from aae.checkpoints import file_digest
from aae.data import PREPARED
from aae.networks import Architecture

# Read at import. What MLflow reports of itself would bury the progress of the training.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

# What loading a logged model imports, beside this package itself, which is logged along.
MODEL_REQUIREMENTS = (
    "filelock",
    "numpy",
    "pydantic",
    "ruamel.yaml",
    "safetensors",
    "scipy",
    "torch",
)


def project_root(start: Path) -> Path:
    """Return the repository's root, seen from a folder in it.

    Queued experiments run in copies of the repository below `.dvc/tmp`, which are deleted
    afterwards: what is tracked belongs to the repository around them.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        if folder.name == ".dvc":
            return folder.parent
    for folder in (start, *start.parents):
        if (folder / ".dvc").is_dir():
            return folder
    return start


def connect(root: Path) -> None:
    """Choose the store and the experiment; create them if they are not there."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "aae")
    artifacts = None if uri else (root / "mlartifacts").as_uri()
    lock = root / ".dvc" / "tmp" / "mlflow.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    # Two processes that meet a new store would both create its tables, or the experiment twice.
    with FileLock(lock):
        mlflow.set_tracking_uri(uri or f"sqlite:///{root / 'mlflow.db'}")
        if mlflow.get_experiment_by_name(name) is None:
            mlflow.create_experiment(name, artifact_location=artifacts)
    mlflow.set_experiment(name)


class Run:
    """A run in progress; losses and metrics are named as in the history and in latent.json."""

    def log_epoch(self, losses: Mapping[str, float]) -> None:
        """Log the losses of an epoch in one call, the epoch as their step."""
        epoch = int(losses["epoch"])
        mlflow.log_metrics({k: v for k, v in losses.items() if k != "epoch"}, step=epoch)

    def log_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Log final metrics, nested ones by dotted name."""
        mlflow.log_metrics(flatten(metrics))

    def log_image(self, image: NDArray[np.uint8], name: str, epoch: int) -> None:
        """Add an image [H, W, 3] to a series over epochs."""
        mlflow.log_image(image, key=name, step=epoch, synchronous=True)

    def log_files(self, folder: Path) -> None:
        """Log all files of a folder, under its name."""
        mlflow.log_artifacts(str(folder), artifact_path=folder.name)

    def log_table(self, table: pd.DataFrame, name: str) -> None:
        """Log a table as JSON, to be looked at and compared in the UI."""
        mlflow.log_table(table, name)

    def log_dataset(self, name: str, digest: str) -> None:
        """Log the prepared data as the input of the run, with the first 32 digits of its digest."""
        source = LocalArtifactDatasetSource(str(PREPARED.resolve()))
        mlflow.log_input(MetaDataset(source, name=name, digest=digest[:32]), context="training")
        mlflow.set_tag("data_digest", digest)

    def log_model(self, weights: Path, architecture: Architecture) -> None:
        """Log a saved model so that MLflow can serve its decoder: codes in, images out."""
        mlflow.set_tag("model_digest", file_digest(weights))
        codes = TensorSpec(np.dtype(np.float32), (-1, architecture.latent_dim))
        images = TensorSpec(np.dtype(np.float32), (-1, *architecture.image_shape))
        mlflow.pyfunc.log_model(
            name="decoder",
            loader_module="aae.serving",
            data_path=str(weights),
            code_paths=[str(Path(__file__).parent)],
            pip_requirements=[f"{name}=={version(name)}" for name in MODEL_REQUIREMENTS],
            signature=ModelSignature(Schema([codes]), Schema([images])),
            input_example=np.zeros((2, architecture.latent_dim), np.float32),
        )


@contextmanager
def training_run(stage: str, prior: str, params: Mapping[str, Any]) -> Iterator[Run]:
    """Start the run of a training stage; FINISHED at the end of the block, FAILED after an error.

    Args:
        stage: name of the stage.
        prior: name of the prior, "none" for an autoencoder without.
        params: nested parameters, logged by dotted name.
    """
    root = project_root(Path.cwd())
    connect(root)
    name = stage if prior == "none" else f"{stage} {prior}"
    experiment = os.environ.get("DVC_EXP_NAME", "")
    tags = {"stage": stage, "prior": prior, "dvc_experiment": experiment, **_git_tags()}
    with mlflow.start_run(run_name=name, tags={k: v for k, v in tags.items() if v}):
        mlflow.log_params(flatten(params))
        yield Run()


@contextmanager
def run_of_model(weights: Path, stage: str) -> Iterator[Run]:
    """Open the run that trained a model, found by the digest of its file, or else a new one.

    Args:
        weights: the model file; its digest is the tag ``model_digest`` of the run that trained it.
        stage: the stage that trained it; names a new run.
    """
    digest = file_digest(weights)
    connect(project_root(Path.cwd()))
    found = mlflow.search_runs(
        filter_string=f"tags.model_digest = '{digest}'", max_results=1, output_format="list"
    )
    if found:
        with mlflow.start_run(run_id=found[0].info.run_id):
            yield Run()
        return
    tags = {"stage": stage, "model_digest": digest, "trained_elsewhere": "true"}
    with mlflow.start_run(run_name=f"{stage} (trained elsewhere)", tags=tags):
        yield Run()


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested parameters into dotted names.

    Example:
        >>> flatten({"seed": 0, "data": {"source": "mnist"}})
        {'seed': 0, 'data.source': 'mnist'}
    """
    flat: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _git_tags() -> dict[str, str]:
    """Commit, and whether what determines the results differs from it; nothing outside git.

    What stages write (dvc.lock, reports/) does not count: DVC has just removed it.
    """

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--", ".", ":!dvc.lock", ":!reports")
        return {"git_commit": git("rev-parse", "HEAD"), "git_dirty": str(bool(dirty)).lower()}
    except (OSError, subprocess.CalledProcessError):
        return {}
