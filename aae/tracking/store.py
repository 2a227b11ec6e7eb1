"""MLflow's store and its records. No other module imports mlflow."""

import json
import logging
import os
import re
import shlex
import shutil
import sqlite3
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

import aae
from aae.errors import StoreAwayError, TrackingError, without_password
from aae.files import replacing
from aae.models import Architecture, Own
from aae.models.serving import DEFAULTS, WEIGHTS, requests, tasks_of
from aae.tracking.address import (
    check_database,
    check_folder,
    database_file,
    experiment_name,
    follow_move,
    is_new,
    moved_to,
    store_uri,
)
from aae.workspace import locked, project_root

# MLflow reads these when it is imported. Its own messages would bury the progress of a training. An
# unreachable server should delay a stage by seconds, and one that hangs by a minute at most.
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
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # it would print the password too

import mlflow
from mlflow import entities
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec
from requests import RequestException

# Packages that a logged model imports. The code of this project is logged with the model; pandas is
# here because MLflow also serves tables.
MODEL_REQUIREMENTS = ("numpy", "pandas", "pydantic", "ruamel.yaml", "safetensors", "torch")

# What to do about an answer of a server, by its status.
_HINTS = {
    401: "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    403: "ask for the right to write to this experiment, or set MLFLOW_EXPERIMENT_NAME",
    404: "check that MLFLOW_TRACKING_URI is the address of an MLflow server",
}
# Longest reason of an error, in letters.
LONGEST = 300
# Versions of the tables that the installed MLflow knows.
_REVISIONS = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"

# urllib3 prints a line for every failed attempt; our one warning is enough.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


def connect(root: Path) -> "Store":
    """Open the store and the experiment in it; create them if they do not exist.

    Args:
        root: root of the repository.

    Raises:
        StoreAwayError: if the store does not answer.
        TrackingError: if the store rejects the request, or the experiment was deleted.
    """
    uri, name = store_uri(root), experiment_name()
    # A server knows where files go; with a database, the client must say it.
    in_database = uri.startswith(tuple(DATABASE_ENGINES))
    artifacts = root / "mlartifacts"
    database = database_file(uri)
    # Without the lock, two processes could both create the tables or the experiment.
    with locked(root, "mlflow"):
        if database is not None:
            check_database(database)
            if former := follow_move(database, artifacts):
                print(f"this project was at {former} before: MLflow now finds its files here")
        with _errors():
            if database is not None and is_new(database):
                _create_tables(uri, database.resolve())
            mlflow.set_tracking_uri(uri)
            experiment = mlflow.get_experiment_by_name(name)
            if experiment is None:
                location = artifacts.as_uri() if in_database else None
                try:
                    mlflow.create_experiment(name, artifact_location=location)
                except MlflowException as error:
                    # Another machine may just have created it.
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
            elif experiment.lifecycle_stage == LifecycleStage.DELETED:
                raise TrackingError(
                    f"MLflow's experiment {name!r} was deleted; to restore it, run `"
                    f"MLFLOW_TRACKING_URI={shlex.quote(without_password(uri))} mlflow experiments "
                    f"restore --experiment-id {experiment.experiment_id}`, or set "
                    "MLFLOW_EXPERIMENT_NAME to another name"
                )
            return Store(mlflow.set_experiment(name).experiment_id)


@contextmanager
def logged_weights(address: str) -> Iterator[Path]:
    """Download a logged model; yield its file of weights, which is deleted afterwards.

    Args:
        address: models:/… or runs:/… of MLflow.

    Raises:
        StoreAwayError: if the store does not answer.
        TrackingError: if the store has no such model, or it is not one of this project.
    """
    if not re.match("models:/.|runs:/[^/]+/.", address):
        raise TrackingError(f"{address!r} is not models:/ID, models:/NAME/VERSION or runs:/ID/NAME")
    root = project_root(Path.cwd())
    uri = store_uri(root)
    database = database_file(uri)
    if database is not None:
        if not database.exists():  # MLflow would create an empty one
            raise TrackingError(
                f"{address}: there is no MLflow database {database}; run the command in the "
                "repository of the model, or set MLFLOW_TRACKING_URI"
            )
        with locked(root, "mlflow"):
            check_database(database)
            follow_move(database, root / "mlartifacts")
    with TemporaryDirectory() as folder:
        with _errors():
            mlflow.set_tracking_uri(uri)
            try:
                mlflow.artifacts.download_artifacts(address, dst_path=folder)
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
                place = without_password(uri)
                reason = f"MLflow at {place} has no such model ({_shortened(error)})"
                raise TrackingError(f"{address}: {reason}") from error
        found = list(Path(folder).rglob("data/**/*.safetensors"))
        if len(found) != 1:
            raise TrackingError(f"{address}: it is not a model that this project has logged")
        yield found[0]


def _create_tables(uri: str, database: Path) -> None:
    """Let MLflow create its tables, all or none: it cannot use a database with some of them."""
    check_folder(Path.cwd())
    with replacing(database) as temporary:
        # Another name for each attempt, because MLflow keeps the connections of every address.
        created = temporary.with_name(uuid.uuid4().hex)
        mlflow.MlflowClient(moved_to(uri, created)).search_experiments(max_results=1)
        created.rename(temporary)


@dataclass
class RunInfo:
    """Identifies a run of MLflow.

    Attributes:
        address: store and experiment, see :func:`aae.tracking.address.address`.
        name: its name, if it is new.
        tags: its tags.
        start: time of its start, in milliseconds since 1970.
        find: filter of MLflow that finds the run if it exists; None if it is new.
        id: its id, once known.
        resumed: whether the run existed before. Records that it already has are then not written
            again.
    """

    address: str
    name: str
    tags: dict[str, str]
    start: int
    find: str | None = None
    id: str | None = None
    resumed: bool = False


class Store:
    """MLflow's store, connected.

    Args:
        experiment: id of the experiment.
    """

    def __init__(self, experiment: str) -> None:
        self.experiment = experiment
        self.uri = mlflow.get_tracking_uri()
        self.client = mlflow.MlflowClient()

    def save_view(self, name: str, view: dict[str, Any]) -> str:
        """Save a view of the experiment's page; return its address relative to the server's."""
        with _errors():
            tag = f"mlflow.sharedViewState.{name}"
            self.client.set_experiment_tag(self.experiment, tag, json.dumps(view))
        return f"#/experiments/{self.experiment}/runs?viewStateShareKey={name}"

    def end_left(self, sweep: str) -> None:
        """Mark the runs that killed trials of a sweep have left running as KILLED."""
        chosen = f"attributes.status = 'RUNNING' and tags.sweep = '{sweep}'"
        with _errors():
            for run in self.client.search_runs([self.experiment], chosen):
                self.client.set_terminated(run.info.run_id, "KILLED")

    def open(self, run: RunInfo) -> str:
        """Find a run or else create it, and return its id; sets ``id`` and ``resumed``.

        Raises:
            StoreAwayError: if the store does not answer.
            TrackingError: if the store rejects the run.
        """
        with _errors():
            found = run.find and self.client.search_runs([self.experiment], run.find)
            if found:
                run.id, run.resumed = found[0].info.run_id, True
                if not self.is_finished(run.id):
                    self.client.update_run(run.id, status="RUNNING")
                    Values(tags=run.tags).write(self, run.id, True)
            else:
                new = self.client.create_run(self.experiment, run.start, run.tags, run.name)
                run.id = new.info.run_id
            return run.id

    def write(self, run: RunInfo, record: "Record") -> None:
        """Write a record to a run, which is opened if its id is not known yet.

        Raises:
            StoreAwayError: if the store does not answer.
            TrackingError: if the store rejects the run or the record.
        """
        run_id = run.id or self.open(run)
        with _errors():
            record.write(self, run_id, run.resumed)

    def is_finished(self, run_id: str) -> bool:
        """Return whether a run has ended as FINISHED."""
        return self.client.get_run(run_id).info.status == "FINISHED"

    @cache  # noqa: B019, a store lives as long as its stage
    def steps(self, run_id: str, metric: str) -> set[int]:
        """Return the steps at which a run had a metric when it was resumed."""
        return {value.step for value in self.client.get_metric_history(run_id, metric)}

    @cache  # noqa: B019
    def images(self, run_id: str) -> set[tuple[str, str]]:
        """Return names and epochs of images that a run had with both files when it was resumed."""
        paths = [Path(item.path) for item in self.client.list_artifacts(run_id, "images")]
        parts = [path.name.split("+") for path in paths if path.suffix == ".webp"]  # written last
        return {(name, epoch) for name, _, epoch, *_ in parts}

    def has_model(self, run_id: str) -> bool:
        """Return whether a run has its model; delete a model that is only half written."""
        chosen = f"source_run_id = '{run_id}'"
        models = self.client.search_logged_models([self.experiment], filter_string=chosen)
        ready = [model.status == entities.LoggedModelStatus.READY for model in models]
        for model, is_ready in zip(models, ready, strict=True):
            if not is_ready:
                self.client.delete_logged_model(model.model_id)
        return any(ready)


@dataclass(frozen=True)
class Values:
    """Metrics, parameters and tags; metrics of an epoch have the epoch as their step."""

    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    step: int = 0
    time: int = 0

    def write(self, store: Store, run_id: str, resumed: bool) -> None:
        """Write all of them in one call."""
        metrics = self.metrics
        if resumed and self.step:
            known = {name for name in metrics if self.step in store.steps(run_id, name)}
            metrics = {name: value for name, value in metrics.items() if name not in known}
        store.client.log_batch(
            run_id,
            [entities.Metric(name, x, self.time, self.step) for name, x in metrics.items()],
            [entities.Param(name, text) for name, text in self.params.items()],
            [entities.RunTag(name, text) for name, text in self.tags.items()],
            synchronous=True,  # also if the environment disagrees: a rejection must be known
        )


@dataclass(frozen=True)
class Image:
    """An image [H, W, 3] of a series over epochs."""

    image: NDArray[np.uint8]
    name: str
    epoch: int
    time: int

    def write(self, store: Store, run_id: str, resumed: bool) -> None:
        """Write the image, unless the run has it."""
        if resumed and (self.name, str(self.epoch)) in store.images(run_id):
            return
        names = {"key": self.name, "step": self.epoch, "timestamp": self.time}
        store.client.log_image(run_id, self.image, **names, synchronous=True)


@dataclass(frozen=True)
class Dataset:
    """A data set, as the input of the run."""

    name: str
    digest: str
    folder: str

    def write(self, store: Store, run_id: str, resumed: bool) -> None:  # noqa: ARG002
        """Write the data set, of which MLflow itself keeps one copy."""
        source = json.dumps({"uri": self.folder})
        dataset = entities.Dataset(self.name, self.digest, "local", source)
        context = entities.InputTag("mlflow.data.context", "training")
        inputs = [entities.DatasetInput(dataset, [context])]
        try:
            store.client.log_inputs(run_id, inputs)
        except MlflowException:  # another run has just created the same data set; now it exists
            store.client.log_inputs(run_id, inputs)


@dataclass(frozen=True)
class SavedModel:
    """A saved model that MLflow can serve: see :mod:`aae.models.serving`."""

    weights: Path
    architecture: dict[str, Any]

    def write(self, store: Store, run_id: str, resumed: bool) -> None:
        """Write the model, unless the run has it."""
        if resumed and store.has_model(run_id):
            return
        sizes = Architecture.model_validate(self.architecture)
        images = TensorSpec(np.dtype(np.float32), (-1, *sizes.image_shape))
        # A schema of the inputs would let only one shape through: that of codes or that of images.
        kinds = {str: "string", int: "long"}
        params = [ParamSpec(name, kinds[type(x)], x) for name, x in DEFAULTS.items()]
        # No package index has the label of a local build (2.13.0+cpu).
        versions = {name: version(name).split("+")[0] for name in MODEL_REQUIREMENTS}
        examples = requests(sizes)
        codes = np.zeros((2, sizes.latent_dim), np.float32)
        with TemporaryDirectory() as folder:
            data = Path(folder, "model")
            (data / "examples").mkdir(parents=True)
            shutil.copyfile(self.weights, data / WEIGHTS)
            for task, request in examples.items():
                (data / "examples" / f"{task}.json").write_text(json.dumps(request))
            Model.log(
                artifact_path=None,
                name="decoder",
                flavor=mlflow.pyfunc,
                run_id=run_id,
                loader_module="aae.models.serving",
                data_path=str(data),
                code_paths=[str(Path(aae.__file__).parent)],
                pip_requirements=[f"{name}=={number}" for name, number in versions.items()],
                signature=ModelSignature(None, Schema([images]), ParamSchema(params)),
                # MLflow tries the example, and cannot load a user's own networks.
                input_example=None
                if isinstance(sizes.network, Own)
                else (codes, examples["decode"]["params"]),
                metadata={"tasks": tasks_of(sizes), "class_names": list(sizes.categories.titles)},
            )


@dataclass(frozen=True)
class Text:
    """A text file."""

    text: str
    name: str

    def write(self, store: Store, run_id: str, resumed: bool) -> None:  # noqa: ARG002
        """Write the text, replacing a file of the same name."""
        store.client.log_text(run_id, self.text, self.name)


@dataclass(frozen=True)
class Files:
    """The files of a folder."""

    folder: Path
    name: str

    def write(self, store: Store, run_id: str, resumed: bool) -> None:  # noqa: ARG002
        """Write the files, replacing files of the same names."""
        store.client.log_artifacts(run_id, str(self.folder), self.name)


@dataclass(frozen=True)
class End:
    """The end of the run: FINISHED, FAILED or KILLED."""

    status: str
    time: int

    def write(self, store: Store, run_id: str, resumed: bool) -> None:  # noqa: ARG002
        """End the run, unless it has ended as FINISHED before."""
        if not store.is_finished(run_id):
            store.client.set_terminated(run_id, self.status, self.time)


# Everything that can be recorded. A resumed run may already have a record, which each class checks.
Record = Values | Image | Dataset | SavedModel | Text | Files | End


@contextmanager
def _errors() -> Iterator[None]:
    """Tell an unreachable store from one that rejects a request."""
    outer = sys.exception()  # an error that the caller is handling is none of the store's
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        if re.search("database schema|Can't locate revision", str(error)):
            raise TrackingError(_of_another_version(error)) from error
        status = _status(error)
        if status < 500 and status != 429:  # 429: too many requests
            hint = f"; {_HINTS[status]}" if status in _HINTS else ""
            raise TrackingError(f"MLflow: {_shortened(error)}{hint}") from error
        first: BaseException = error  # libraries wrap the cause in longer and longer messages
        while (inner := first.__cause__ or first.__context__) not in (None, outer):
            first = inner
        reason = _shortened(error)
        if isinstance(first, OSError) and first.strerror:
            named = f"{first.filename}: " if first.filename is not None else ""
            reason = f"{named}{first.strerror}"
        elif isinstance(first, sqlite3.Error):
            reason = str(first)
        message = f"MLflow at {mlflow.get_tracking_uri()} does not answer ({reason})"
        raise StoreAwayError(without_password(message)) from error


def _status(error: Exception) -> int:
    """Return the status of a server's answer, or the one that an error of a library amounts to."""
    if isinstance(error, MlflowException):
        return error.get_http_status_code()
    if isinstance(error, RequestException) and error.response is not None:  # an upload of files
        return error.response.status_code
    # This type of store needs a package that is missing. All else is raised by the libraries of
    # databases and buckets if these do not answer.
    return 400 if isinstance(error, ImportError) else 500


def _of_another_version(error: Exception) -> str:
    uri = without_password(mlflow.get_tracking_uri())
    versions = re.search(r"found version (\w+)", str(error))
    if versions is not None and any(_REVISIONS.glob(f"{versions[1]}*.py")):
        upgrade = f"mlflow db upgrade {shlex.quote(uri)}"
        return f"MLflow's database is of an older MLflow: make a copy of it, then run `{upgrade}`"
    return (
        f"MLflow's database {uri} is of a newer MLflow than {mlflow.__version__}, or of none: "
        "install that version, or set MLFLOW_TRACKING_URI to another database"
    )


def _shortened(error: Exception) -> str:
    """Return the message of an error in one line, cut between words if it is a whole page."""
    text = " ".join(without_password(str(error)).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rsplit(' ', 1)[0]} …"
