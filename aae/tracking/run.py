"""A run that records a stage, even if MLflow is unreachable."""

import os
import re
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from aae.data.prepared import PREPARED
from aae.errors import OutputError, StoreAwayError, TrackingError, without_password
from aae.evaluation.measures import HEADLINES
from aae.files import file_digest
from aae.models import Architecture
from aae.params import flatten
from aae.tracking import store
from aae.tracking.address import address
from aae.tracking.spool import save_spooled, spool_lock, spooled, sync, upload
from aae.workspace import experiment, git, project_root


class Run:
    """A run of MLflow; losses and metrics have the names of the history and of latent.json.

    Everything is recorded in order. If the store becomes unreachable, or rejects a record after it
    has accepted others, this and all later records go to `mlflow-spool/`. The run uploads them when
    it is closed; if that fails too, the next stage or `aae sync` does.

    Args:
        root: root of the repository.
        info: identifies the run.
        begun: whether the store has accepted a record. A rejection is then a warning, and
            otherwise an error.
    """

    def __init__(self, root: Path, info: store.RunInfo, begun: bool = False) -> None:
        self.root, self.info, self.begun = root, info, begun
        self.store: store.Store | None = None
        self.away, self.disk_is_full = False, False
        stamp = time.strftime("%Y%m%d-%H%M%S")
        name = re.sub(r"[^\w.-]+", "-", f"{stamp} {info.name} {uuid.uuid4().hex[:6]}")
        self.folder = root / "mlflow-spool" / name
        self.lock = spool_lock(root, self.folder)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log nested parameters by dotted name."""
        texts = {name: without_password(str(value)) for name, value in flatten(params).items()}
        self._record(store.Values(params=texts))

    def log_epoch(self, losses: Mapping[str, float]) -> None:
        """Log the losses of an epoch, with the epoch as their step."""
        values = {name: loss for name, loss in losses.items() if name != "epoch"}
        self._record(store.Values(values, step=int(losses["epoch"]), time=now()))

    def log_image(self, image: NDArray[np.uint8], name: str, epoch: int) -> None:
        """Add an image [H, W, 3] to a series over epochs."""
        self._record(store.Image(image, name, epoch, now()))

    def log_dataset(self, name: str, digest: str) -> None:
        """Log the prepared data as the input of the run, with the first 32 digits of its digest."""
        self._record(store.Dataset(name, digest[:32], str(PREPARED.resolve())))
        self._record(store.Values(tags={"data_digest": digest}))

    def log_model(self, weights: Path, architecture: Architecture) -> None:
        """Log a saved model so that MLflow can serve its decoder: codes in, images out."""
        self._record(store.Values(tags={"model_digest": file_digest(weights)}))
        self._record(store.SavedModel(weights, architecture.model_dump(mode="json")))

    def log_evaluation(
        self,
        metrics: Mapping[str, Any],
        histogram: pd.DataFrame,
        figures: Path,
        prefix: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log an evaluation; a later one replaces it.

        Args:
            metrics: the final metrics. Nested metrics are named "group/dotted.name", since
                MLflow's pages have a section for each group.
            histogram: bins of the latent histogram.
            figures: a folder with figures.
            prefix: prefix of all names, which distinguishes several evaluations of a model.
            tags: additional tags of the evaluation.
        """
        values = {
            f"{prefix}{name.replace('.', '/', 1)}": value
            for name, value in flatten(metrics).items()
            if not isinstance(value, str)
        }
        named = {f"{prefix}{name}": tag for name, tag in (tags or {}).items()}
        named["mlflow.note.content"] = ", ".join(
            f"{prefix}{name} {metrics[name]:.4g}" for name in HEADLINES if name in metrics
        )
        self._record(store.Values(metrics=values, tags=named, time=now()))
        self._record(store.Text(histogram.to_csv(index=False), f"{prefix}latent_histogram.csv"))
        self._record(store.Files(figures, f"{prefix}figures"))

    def upload_older(self) -> None:
        """Upload the records of earlier stages, since this run may continue one of their runs."""
        if not spooled(self.root):
            return
        try:
            _, left = sync(self.root)
        except StoreAwayError as error:
            self._goes_on_without(error)
        else:
            for reason in left:
                warn(reason)

    def close(self, status: str) -> None:
        """End the run, then upload what is in the spool, after the records of earlier stages.

        Args:
            status: FINISHED, FAILED, or KILLED by the user, who does not wait again for a store
                that was unreachable.
        """
        self._record(store.End(status, now()))
        if self.folder not in spooled(self.root):
            return
        try:
            if status == "KILLED":
                raise StoreAwayError("MLflow does not answer")
            sync(self.root)
            upload(self.root, self.folder)
        except (TrackingError, OutputError) as error:
            folder = self.folder.relative_to(self.root)
            warn(f"{error}; the rest of this run is kept in {folder}; upload it with `aae sync`")
        finally:
            self.lock.release()

    def _record(self, record: store.Record) -> None:
        if self.away:
            self._spool(record)
            return
        try:
            self.store = self.store or store.connect(self.root)
            self.store.write(self.info, record)
            self.begun = True
        except TrackingError as error:
            if not self.begun and not isinstance(error, StoreAwayError):
                raise
            self._goes_on_without(error)
            self._spool(record)
        except BaseException:  # Ctrl-C, while a server does not answer: do not ask it again
            self.away = True
            self._spool(record)
            raise

    def _goes_on_without(self, error: TrackingError) -> None:
        self.away = True
        warn(f"{error}; the stage continues, and records what is missing at its end")

    def _spool(self, record: store.Record) -> None:
        """Spool a record, so that it survives a kill; a full disk does not end the training."""
        if self.disk_is_full:
            return
        try:
            if not self.lock.is_locked:
                self.lock.acquire()
            # The store may have accepted a record although its answer was lost. A resumed run is
            # asked what it has.
            save_spooled(self.folder, replace(self.info, resumed=True), record)
        except (OutputError, OSError) as error:
            self.disk_is_full = True
            warn(f"the rest of this run cannot be kept: {error}")


@contextmanager
def training_run(
    stage: str, prior: str, seed: int, params: Mapping[str, Any], training: str
) -> Iterator[Run]:
    """Record a training stage: FINISHED at the end of the block, FAILED after an error.

    Args:
        stage: name of the stage.
        prior: name of the prior, "none" for an autoencoder.
        seed: the seed of params.yaml.
        params: nested parameters, logged by dotted name.
        training: id of the training; if the training was killed before, its run continues.
    """
    info = _new_run(stage, prior, seed, {"training": training})
    with _ended(Run(project_root(Path.cwd()), info)) as run:
        run.log_params(params)
        yield run


@contextmanager
def evaluation_run(weights: Path, stage: str, prior: str, seed: int) -> Iterator[Run]:
    """Record in the run that trained a model, or else in a new run whose name says so.

    Args:
        weights: the model file; the run that trained it has its digest as tag ``model_digest``.
        stage: the stage that trained it.
        prior: the prior that it was trained with, "none" for an autoencoder.
        seed: the seed of params.yaml.
    """
    info = _new_run(stage, prior, seed, {"model_digest": file_digest(weights)})
    info.name += " (trained elsewhere)"
    info.tags["trained_elsewhere"] = "true"
    info.find = f"{info.find} and attributes.status = 'FINISHED'"
    # The evaluation is done, so a store that rejects it must not end the stage.
    with _ended(Run(project_root(Path.cwd()), info, begun=True)) as run:
        yield run


@contextmanager
def _ended(run: Run) -> Iterator[Run]:
    """End a run with the block, as FINISHED, as KILLED after Ctrl-C, or as FAILED."""
    run.upload_older()
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        run.close(status)


def _new_run(stage: str, prior: str, seed: int, found_by: Mapping[str, str]) -> store.RunInfo:
    """Describe a run; if there is one with the tag ``found_by``, that run continues."""
    tags = {
        "stage": stage, "prior": prior, "seed": str(seed), "dvc_experiment": experiment(),
        "threads": str(torch.get_num_threads()), "ci": "true" if os.environ.get("CI") else "",
        "sweep": os.environ.get("AAE_TRIAL", "").partition(" ")[0],
        "mlflow.source.name": f"stages/{stage}.py", "mlflow.source.type": "LOCAL",
        **_git_tags(), **found_by,
    }  # fmt: skip
    name = f"{stage} seed {seed}" if prior == "none" else f"{stage} {prior} seed {seed}"
    tags = {key: without_password(value) for key, value in tags.items() if value}
    ((key, value),) = found_by.items()
    where = address(project_root(Path.cwd()))
    return store.RunInfo(where, name, tags, now(), find=f"tags.{key} = '{value}'")


def _git_tags() -> dict[str, str]:
    """Return the commit, and whether the working tree differs from it; nothing outside of git.

    Outputs of the stages (dvc.lock, reports/) do not count as differences.
    """
    # The option is needed if the user's git is configured to hide untracked files.
    status = ("status", "--porcelain", "--untracked-files=normal")
    commit, changes = git("rev-parse", "HEAD"), git(*status, "--", ".", ":!dvc.lock", ":!reports")
    if commit is None or changes is None:
        return {}
    return {"git_commit": commit, "git_dirty": str(bool(changes)).lower()}


def now() -> int:
    """Return the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def warn(message: str) -> None:
    """Print a warning."""
    print(f"warning: {message}", file=sys.stderr, flush=True)
