"""MLflow: how what a run holds gets into its store; where that is, aae/workspace.py knows."""

import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aae.errors import TrackingError, without_password
from aae.workspace import locked, mlflow_experiment, store_uri
from aae.models.networks import Architecture
from aae.tracking.spool import Record

# Read at import. What MLflow reports of itself would bury the progress of the training, and a
# server that is away is to hold a stage up for seconds, one that hangs for a minute.
os.environ.update(
    {
        name: os.environ.get(name) or value
        for name, value in {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_LOGGING_LEVEL": "WARNING",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
        }.items()
    }
)
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # it would print a password in it

import mlflow
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelStatus,
    Metric,
    Param,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.types import Schema, TensorSpec
from requests import RequestException

# What loading a logged model imports, beside this package itself, which is logged along; pandas for
# MLflow's sake, which serves tables, too.
MODEL_REQUIREMENTS = ("numpy", "pandas", "pydantic", "safetensors", "torch")

# Of each attempt to reach a server that is away urllib3 has a line; one warning of ours is enough.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


class StoreAwayError(Exception):
    """The store cannot be reached, or cannot answer for now."""


def connect(root: Path) -> "Store":
    """Open the store and the experiment in it, created if they are not there.

    Args:
        root: root of the repository.

    Raises:
        StoreAwayError: if the store does not answer.
        TrackingError: if it refuses.
    """
    uri, name = store_uri(root), mlflow_experiment()
    # Of a database; a server and a folder know where files go.
    in_database = uri.startswith(tuple(DATABASE_ENGINES))
    artifacts = (root / "mlartifacts").as_uri() if in_database else None
    # Two processes that meet a new store would both create its tables, or the experiment twice.
    with locked(root, "mlflow"), _errors():
        mlflow.set_tracking_uri(uri)
        if mlflow.get_experiment_by_name(name) is None:
            try:
                mlflow.create_experiment(name, artifact_location=artifacts)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # from another machine
                    raise
        return Store(mlflow.set_experiment(name).experiment_id)


class Store:
    """MLflow's store, open.

    Args:
        experiment: id of the experiment.
    """

    def __init__(self, experiment: str) -> None:
        self.experiment = experiment
        self.uri = mlflow.get_tracking_uri()
        self.client = mlflow.MlflowClient()

    def share_view(self, name: str, view: dict[str, Any]) -> str:
        """Save how the experiment's page is to look; return the address below the server's."""
        with _errors():
            tag = f"mlflow.sharedViewState.{name}"
            self.client.set_experiment_tag(self.experiment, tag, json.dumps(view))
        return f"#/experiments/{self.experiment}/runs?viewStateShareKey={name}"

    def end_left(self, experiments: Iterable[str]) -> None:
        """End the runs of DVC experiments that were killed and are not run again, as KILLED."""
        with _errors():
            for name in experiments:
                chosen = f"attributes.status = 'RUNNING' and tags.dvc_experiment = '{name}'"
                for run in self.client.search_runs([self.experiment], chosen):
                    self.client.set_terminated(run.info.run_id, "KILLED")

    def write(self, run: dict[str, Any], records: list[Record]) -> None:
        """Record; each record is taken off the list when it is done.

        Args:
            run: which run. With an ``id``, that one. Else the one that the filter in its ``find``
                finds, if it has such a key and there is such a run; else a new one with its
                ``name``, ``tags`` and ``start`` (milliseconds since 1970). Its ``id`` is then set,
                and ``resumed`` if the run was there before. What a resumed run has of a training
                is not recorded twice.
            records: what to record, in order: the names of methods `write_…` and their arguments.

        Raises:
            StoreAwayError: if the store does not answer; what is left on the list is not recorded.
            TrackingError: if it refuses.
        """
        with _errors():
            if "id" not in run:
                found = self._find(run["find"]) if "find" in run else None
                run["id"] = found or self._begin(run)
                run["resumed"] = found is not None or run.get("resumed", False)
                if found and not self._is_finished(found):
                    self.client.update_run(found, status="RUNNING")
                    self.write_batch(run, tags=run["tags"])
            while records:
                kind, arguments = records[0]
                getattr(self, f"write_{kind}")(run, **arguments)
                del records[0]

    def _find(self, filter_string: str) -> str | None:
        found = self.client.search_runs([self.experiment], filter_string, max_results=1)
        return found[0].info.run_id if found else None

    def _begin(self, run: dict[str, Any]) -> str:
        begun = self.client.create_run(self.experiment, run["start"], run["tags"], run["name"])
        return begun.info.run_id

    def _is_finished(self, run_id: str) -> bool:
        return self.client.get_run(run_id).info.status == "FINISHED"

    def write_batch(
        self,
        run: dict[str, Any],
        metrics: dict[str, float] | None = None,
        step: int = 0,
        time: int = 0,
        params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Record metrics of a step, parameters and tags in one call."""
        self.client.log_batch(
            run["id"],
            [Metric(name, value, time, step) for name, value in (metrics or {}).items()],
            [Param(name, value) for name, value in (params or {}).items()],
            [RunTag(name, value) for name, value in (tags or {}).items()],
            synchronous=True,  # whatever the environment says: what is refused is to be known
        )

    def write_epoch(
        self, run: dict[str, Any], losses: dict[str, float], epoch: int, time: int
    ) -> None:
        """Record the losses of an epoch, those that the run does not have."""
        if run["resumed"]:
            losses = {k: v for k, v in losses.items() if epoch not in self._epochs(run["id"], k)}
        self.write_batch(run, losses, epoch, time)
        for name in losses if run["resumed"] else ():
            self._epochs(run["id"], name).add(epoch)

    @cache  # noqa: B019, a store lives as long as its stage
    def _epochs(self, run_id: str, metric: str) -> set[int]:
        return {value.step for value in self.client.get_metric_history(run_id, metric)}

    def write_image(
        self, run: dict[str, Any], image: NDArray[np.uint8], name: str, epoch: int, time: int
    ) -> None:
        """Add an image to a series over epochs, unless the run has it."""
        recorded = self._images(run["id"]) if run["resumed"] else set()
        if (name, str(epoch)) not in recorded:
            self.client.log_image(
                run["id"], image, key=name, step=epoch, timestamp=time, synchronous=True
            )
            recorded.add((name, str(epoch)))

    @cache  # noqa: B019
    def _images(self, run_id: str) -> set[tuple[str, str]]:
        """Names and epochs of the images of which MLflow has written both files, the .webp last."""
        paths = [Path(item.path) for item in self.client.list_artifacts(run_id, "images")]
        parts = [path.name.split("+") for path in paths if path.suffix == ".webp"]
        return {(name, epoch) for name, _, epoch, *_ in parts}

    def write_dataset(self, run: dict[str, Any], name: str, digest: str, folder: str) -> None:
        """Record a data set as the input of the run."""
        dataset = Dataset(name, digest, source_type="local", source=json.dumps({"uri": folder}))
        context = InputTag("mlflow.data.context", "training")
        inputs = [DatasetInput(dataset, [context])]
        try:
            self.client.log_inputs(run["id"], inputs)
        except MlflowException:  # another run has just recorded the same data set: now it is found
            self.client.log_inputs(run["id"], inputs)

    def write_model(self, run: dict[str, Any], weights: Path, architecture: dict[str, Any]) -> None:
        """Record a saved model so that MLflow can serve its decoder: codes in, images out."""
        if run["resumed"] and self._has_model(run["id"]):
            return
        sizes = Architecture.model_validate(architecture)
        codes = TensorSpec(np.dtype(np.float32), (-1, sizes.latent_dim))
        images = TensorSpec(np.dtype(np.float32), (-1, *sizes.image_shape))
        # Without the label of a local build (2.13.0+cpu), which no package index has.
        versions = {name: version(name).split("+")[0] for name in MODEL_REQUIREMENTS}
        Model.log(
            artifact_path=None,
            name="decoder",
            flavor=mlflow.pyfunc,
            run_id=run["id"],
            loader_module="aae.models.serving",
            data_path=str(weights),
            code_paths=[str(Path(__file__).parent)],
            pip_requirements=[f"{name}=={number}" for name, number in versions.items()],
            signature=ModelSignature(Schema([codes]), Schema([images])),
            input_example=np.zeros((2, sizes.latent_dim), np.float32),
        )

    def _has_model(self, run_id: str) -> bool:
        """Tell whether a run has its model; one that was being written when it was killed goes."""
        chosen = f"source_run_id = '{run_id}'"
        models = self.client.search_logged_models([self.experiment], filter_string=chosen)
        for model in models:
            if model.status != LoggedModelStatus.READY:
                self.client.delete_logged_model(model.model_id)
        return any(model.status == LoggedModelStatus.READY for model in models)

    def write_text(self, run: dict[str, Any], text: str, name: str) -> None:
        """Record a text as an artifact of this name."""
        self.client.log_text(run["id"], text, name)

    def write_files(self, run: dict[str, Any], folder: Path, name: str) -> None:
        """Record the files of a folder as artifacts in a folder of this name."""
        self.client.log_artifacts(run["id"], str(folder), name)

    def write_end(self, run: dict[str, Any], status: str, time: int) -> None:
        """End the run, unless it has come to a good end before."""
        if not self._is_finished(run["id"]):
            self.client.set_terminated(run["id"], status, time)


@contextmanager
def _errors() -> Iterator[None]:
    """Tell a store that is away from one that refuses."""
    outer = sys.exception()  # in whose handling the store is called, if it is in one's
    try:
        yield
    except MlflowException as error:
        away = error.get_http_status_code() >= 500
        _raise(error, away, outer)
    except RequestException as error:  # from an upload of files
        away = error.response is None or error.response.status_code >= 500
        _raise(error, away, outer)
    except ImportError as error:  # a package that this kind of store needs
        _raise(error, False, outer)
    # A store of files whose disk is full; a database or a bucket, in the words of its own library.
    except Exception as error:
        _raise(error, True, outer)


def _raise(error: Exception, away: bool, outer: BaseException | None) -> None:
    if not away:
        raise TrackingError(f"MLflow: {without_password(str(error))}") from error
    first: BaseException = error  # which the libraries between have put into ever longer sentences
    while (inner := first.__cause__ or first.__context__) not in (None, outer):
        first = inner
    reason = " ".join(without_password(str(error)).split())[:200]
    if isinstance(first, OSError) and first.strerror and first.filename is None:
        reason = first.strerror
    uri = mlflow.get_tracking_uri()
    raise StoreAwayError(without_password(f"MLflow at {uri} does not answer ({reason})")) from error
