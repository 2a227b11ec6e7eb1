"""What is tracked of a training and of an evaluation, whether MLflow can be reached or not."""

import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from aae.data import PREPARED
from aae.errors import TrackingError, without_password
from aae.experiments import address, git, locked, project_root
from aae.files import file_digest
from aae.networks import Architecture
from aae.params import flatten
from aae.spool import Record, load_spooled, remove_spooled, save_spooled, spooled
from aae.tracking import Store, StoreAwayError, connect

# What a run's description says of its model; all metrics are on its page.
DESCRIBED = (
    "follows_prior", "match_ratio", "ks_statistic", "reconstruction_mse", "generated_frechet",
)  # fmt: skip


class Run:
    """A run to record in; losses and metrics are named as in the history and in latent.json.

    Everything is recorded in order. Once the store is found to be away, or refuses what it used to
    take, the rest is kept, and recorded when the run is closed; what it does not take then is kept
    in `mlflow-spool/`.

    Args:
        root: root of the repository.
        run: which run it is, see :meth:`aae.tracking.Store.write`.
    """

    def __init__(self, root: Path, run: dict[str, Any]) -> None:
        self.root, self.run = root, {"address": address(root)} | run
        self.store: Store | None = None
        self.pending: list[Record] = []
        self.away = False
        self.begun = False  # whether the store has taken something
        self.folder: Path | None = None  # where it is spooled, if it is

    @classmethod
    def from_spool(cls, root: Path, folder: Path) -> "Run":
        """Return a spooled run, to go on recording in it."""
        run, records = load_spooled(folder)
        spooled_run = cls(root, run)
        spooled_run.pending, spooled_run.folder = records, folder
        spooled_run.away = spooled_run.begun = True  # what has been waiting is recorded first
        return spooled_run

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log nested parameters by dotted name."""
        self._record(
            "batch", params={k: without_password(str(v)) for k, v in flatten(params).items()}
        )

    def log_epoch(self, losses: Mapping[str, float]) -> None:
        """Log the losses of an epoch, the epoch as their step."""
        values = {name: loss for name, loss in losses.items() if name != "epoch"}
        self._record("epoch", losses=values, epoch=int(losses["epoch"]), time=_now())

    def log_image(self, image: NDArray[np.uint8], name: str, epoch: int) -> None:
        """Add an image [H, W, 3] to a series over epochs."""
        self._record("image", image=image, name=name, epoch=epoch, time=_now())

    def log_dataset(self, name: str, digest: str) -> None:
        """Log the prepared data as the input of the run, with the first 32 digits of its digest."""
        self._record("dataset", name=name, digest=digest[:32], folder=str(PREPARED.resolve()))
        self._record("batch", tags={"data_digest": digest})

    def log_model(self, weights: Path, architecture: Architecture) -> None:
        """Log a saved model so that MLflow can serve its decoder: codes in, images out."""
        self.run["model_digest"] = file_digest(weights)
        self._record("batch", tags={"model_digest": self.run["model_digest"]})
        self._record("model", weights=weights, architecture=architecture.model_dump(mode="json"))

    def log_evaluation(
        self, metrics: Mapping[str, Any], histogram: pd.DataFrame, figures: Path, prefix: str = ""
    ) -> None:
        """Log an evaluation; a later one takes its place.

        Args:
            metrics: the final metrics. Nested ones go by "group/dotted.name": MLflow's pages have a
                section for each group.
            histogram: bins of the latent histogram.
            figures: a folder of figures.
            prefix: put before all names, to tell several evaluations of a model apart.
        """
        values = {
            f"{prefix}{name.replace('.', '/', 1)}": value
            for name, value in flatten(metrics).items()
        }
        description = ", ".join(
            f"{prefix}{name} {value:.4g}" for name, value in metrics.items() if name in DESCRIBED
        )
        tags = {"mlflow.note.content": description}
        self._record("batch", metrics=values, tags=tags, time=_now())
        bins = histogram.to_csv(index=False)
        self._record("text", text=bins, name=f"{prefix}latent_histogram.csv")
        self._record("files", folder=figures, name=f"{prefix}figures")

    def end(self, status: str) -> None:
        """End the run: FINISHED, FAILED or KILLED."""
        self._record("end", status=status, time=_now())

    def keep(self) -> None:
        """Spool what the store has not taken yet, lest it be lost if this process is killed."""
        if self.away:
            self._spool()

    def close(self, at_once: bool = False) -> None:
        """Record what is pending; if that cannot be done, spool it.

        Args:
            at_once: do not wait again for a store that was away.
        """
        try:
            if self.away and at_once:
                raise StoreAwayError("MLflow does not answer")
            self._write_pending()
        except (StoreAwayError, TrackingError) as error:
            folder = self._spool().relative_to(self.root)
            _warn(
                f"{error}; the rest of this run is kept in {folder}, "
                "upload it with `python -m aae.sync`"
            )
        except BaseException:  # Ctrl-C while a server does not answer
            self._spool()
            raise
        else:
            if self.folder is not None:
                remove_spooled(self.folder)

    def _spool(self) -> Path:
        if self.folder is None:
            stamp = time.strftime("%Y%m%d-%H%M%S")
            name = re.sub(r"[^\w.-]+", "-", f"{stamp} {self.run['name']} {uuid.uuid4().hex[:6]}")
            self.folder = self.root / "mlflow-spool" / name
        save_spooled(self.folder, self.run | {"resumed": True}, self.pending)
        return self.folder

    def _record(self, kind: str, **arguments: Any) -> None:
        self.pending.append((kind, arguments))
        if not self.away:
            try:
                self._write_pending()
            except (StoreAwayError, TrackingError) as error:
                if isinstance(error, TrackingError) and not self.begun:
                    self.pending.clear()
                    raise
                self.away = True
                _warn(f"{error}; going on, what it misses will be recorded at the end")

    def _write_pending(self) -> None:
        if self.store is None:
            self.store = connect(self.root)
        self.store.write(self.run, self.pending)
        self.begun = True


@contextmanager
def training_run(
    stage: str, prior: str, seed: int, params: Mapping[str, Any], training: str
) -> Iterator[Run]:
    """Record a training stage: FINISHED at the end of the block, FAILED after an error.

    Args:
        stage: name of the stage.
        prior: name of the prior, "none" for an autoencoder without.
        seed: the seed of params.yaml.
        params: nested parameters, logged by dotted name.
        training: id of the training; if it was begun and then killed, its run goes on.
    """
    root, new = project_root(Path.cwd()), _new_run(stage, prior, seed)
    new["tags"]["training"] = training
    run = _spooled_run(root, lambda old: old["tags"].get("training") == training)
    if run is None:
        run = Run(root, new | {"find": f"tags.training = '{training}'"})
    run.away = False
    try:
        run.log_params(params)
        yield run
    except KeyboardInterrupt:
        run.end("KILLED")
        run.close(at_once=True)
        raise
    except BaseException:
        run.end("FAILED")
        run.close()
        raise
    run.end("FINISHED")
    run.close()


@contextmanager
def evaluation_run(weights: Path, stage: str, prior: str, seed: int) -> Iterator[Run]:
    """Record in the run that trained a model; if there is none, in a new one that says so.

    Args:
        weights: the model file; its digest is the tag ``model_digest`` of the run that trained it.
        stage: the stage that trained it.
        prior: the prior that it was trained with, "none" for an autoencoder.
        seed: the seed of params.yaml.
    """
    root, digest = project_root(Path.cwd()), file_digest(weights)
    with locked(root, "spool"):
        run = _spooled_run(root, lambda old: old.get("model_digest") == digest)
        if run is None:
            new = _new_run(stage, prior, seed)
            new["name"] += " (trained elsewhere)"
            new["tags"] |= {"model_digest": digest, "trained_elsewhere": "true"}
            trained = f"tags.model_digest = '{digest}' and attributes.status = 'FINISHED'"
            run = Run(root, new | {"find": trained, "model_digest": digest})
            run.begun = True  # the evaluation is done: a store that refuses it is no reason to fail
        try:
            yield run
            run.end("FINISHED")
        finally:
            run.close()


def _spooled_run(root: Path, is_it: Callable[[dict[str, Any]], bool]) -> Run | None:
    """Return the spooled run that is looked for, if there is one for this store."""
    for folder in spooled(root):
        try:
            run = Run.from_spool(root, folder)
        except FileNotFoundError:  # just uploaded by another process, or written anew by its own
            continue
        except TrackingError as error:
            _warn(f"{folder.relative_to(root)}: {error}")
            continue
        if is_it(run.run) and run.run["address"] == address(root):
            return run
    return None


def _new_run(stage: str, prior: str, seed: int) -> dict[str, Any]:
    experiment = os.environ.get("DVC_EXP_NAME", "")
    tags = {"stage": stage, "prior": prior, "seed": str(seed), "dvc_experiment": experiment}
    tags["threads"] = str(torch.get_num_threads())
    tags["ci"] = "true" if os.environ.get("CI") else ""
    tags |= {"mlflow.source.name": f"stages/{stage}.py", "mlflow.source.type": "LOCAL"}
    name = f"{stage} seed {seed}" if prior == "none" else f"{stage} {prior} seed {seed}"
    tags = {k: without_password(v) for k, v in (tags | _git_tags()).items() if v}
    return {"name": name, "tags": tags, "start": _now()}


def _git_tags() -> dict[str, str]:
    """Commit, and whether what determines the results differs from it; nothing outside git.

    What stages write (dvc.lock, reports/) does not count: DVC has just removed it.
    """

    # Also where the user's git is told to leave out files that it does not know.
    status = ("status", "--porcelain", "--untracked-files=normal")
    commit, changes = git("rev-parse", "HEAD"), git(*status, "--", ".", ":!dvc.lock", ":!reports")
    if commit is None or changes is None:
        return {}
    return {"git_commit": commit, "git_dirty": str(bool(changes)).lower()}


def _now() -> int:
    return time.time_ns() // 1_000_000


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)
