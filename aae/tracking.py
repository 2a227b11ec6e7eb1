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

from aae.data import PREPARED
from aae.files import file_digest
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
MODEL_REQUIREMENTS = ("numpy", "pandas", "pydantic", "ruamel.yaml", "safetensors", "torch")


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
    """A run to record in; losses and metrics are named as in the history and in latent.json.

    Args:
        run_id: MLflow's id of the run.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    def log_epoch(self, losses: Mapping[str, float]) -> None:
        """Log the losses of an epoch in one call, the epoch as their step."""
        epoch = int(losses["epoch"])
        values = {name: loss for name, loss in losses.items() if name != "epoch"}
        mlflow.log_metrics(values, step=epoch)  # the active run: naming it would take twice as long

    def log_image(self, image: NDArray[np.uint8], name: str, epoch: int) -> None:
        """Add an image [H, W, 3] to a series over epochs."""
        mlflow.MlflowClient().log_image(self.run_id, image, key=name, step=epoch, synchronous=True)

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
        # Without the label of a local build (2.13.0+cpu), which no package index has.
        versions = {name: version(name).split("+")[0] for name in MODEL_REQUIREMENTS}
        mlflow.pyfunc.log_model(
            name="decoder",
            loader_module="aae.serving",
            data_path=str(weights),
            code_paths=[str(Path(__file__).parent)],
            pip_requirements=[f"{name}=={number}" for name, number in versions.items()],
            signature=ModelSignature(Schema([codes]), Schema([images])),
            input_example=np.zeros((2, architecture.latent_dim), np.float32),
        )

    def log_evaluation(
        self, metrics: Mapping[str, Any], histogram: pd.DataFrame, figures: Path, prefix: str = ""
    ) -> None:
        """Log an evaluation; a later one takes its place.

        Args:
            metrics: the final metrics, nested ones go by dotted name.
            histogram: bins of the latent histogram.
            figures: a folder of figures.
            prefix: put before all names, to tell several evaluations of a model apart.
        """
        values = {f"{prefix}{name}": value for name, value in flatten(metrics).items()}
        mlflow.log_metrics(values, run_id=self.run_id)
        bins = histogram.to_csv(index=False)
        mlflow.log_text(bins, f"{prefix}latent_histogram.csv", run_id=self.run_id)
        mlflow.log_artifacts(str(figures), f"{prefix}figures", run_id=self.run_id)


@contextmanager
def training_run(stage: str, prior: str, params: Mapping[str, Any]) -> Iterator[Run]:
    """Start the run of a training stage; FINISHED at the end of the block, FAILED after an error.

    Args:
        stage: name of the stage.
        prior: name of the prior, "none" for an autoencoder without.
        params: nested parameters, logged by dotted name.
    """
    connect(project_root(Path.cwd()))
    name = stage if prior == "none" else f"{stage} {prior}"
    experiment = os.environ.get("DVC_EXP_NAME", "")
    tags = {"stage": stage, "prior": prior, "dvc_experiment": experiment, **_git_tags()}
    with mlflow.start_run(run_name=name, tags={k: v for k, v in tags.items() if v}) as active:
        mlflow.log_params(flatten(params))
        yield Run(active.info.run_id)


def run_of_model(weights: Path, stage: str, prior: str) -> Run:
    """Return the run that trained a model; if the store has none, a new one that says so.

    Args:
        weights: the model file; its digest is the tag ``model_digest`` of the run that trained it.
        stage: the stage that trained it.
        prior: the prior that it was trained with, "none" for an autoencoder.
    """
    digest = file_digest(weights)
    connect(project_root(Path.cwd()))
    found = mlflow.search_runs(
        filter_string=f"tags.model_digest = '{digest}' and attributes.status = 'FINISHED'",
        max_results=1,
        output_format="list",
    )
    if found:
        return Run(found[0].info.run_id)
    tags = {"stage": stage, "prior": prior, "model_digest": digest, "trained_elsewhere": "true"}
    with mlflow.start_run(run_name=f"{stage} (trained elsewhere)", tags=tags) as active:
        return Run(active.info.run_id)


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
