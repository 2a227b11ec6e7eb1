"""A run that is recorded in, whether MLflow can be reached or not."""

import re
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray

from aae.data.data import PREPARED
from aae.errors import OutputError, TrackingError, without_password
from aae.workspace import address
from aae.files import file_digest
from aae.models.networks import Architecture
from aae.params import flatten
from aae.tracking.spool import Record, load_spooled, remove_spooled, save_spooled, spool_lock
from aae.tracking.store import Store, StoreAwayError, connect

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
        run: which run it is, see :meth:`aae.tracking.store.Store.write`.
    """

    def __init__(self, root: Path, run: dict[str, Any]) -> None:
        self.root, self.run = root, {"address": address(root)} | run
        self.store: Store | None = None
        self.pending: list[Record] = []
        self.away = False
        self.begun = False  # whether the store has taken something
        self.folder: Path | None = None  # where it is spooled, if it is
        self.lock: FileLock | None = None  # of that folder

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
        self._record("epoch", losses=values, epoch=int(losses["epoch"]), time=now())

    def log_image(self, image: NDArray[np.uint8], name: str, epoch: int) -> None:
        """Add an image [H, W, 3] to a series over epochs."""
        self._record("image", image=image, name=name, epoch=epoch, time=now())

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
        self,
        metrics: Mapping[str, Any],
        histogram: pd.DataFrame,
        figures: Path,
        prefix: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log an evaluation; a later one takes its place.

        Args:
            metrics: the final metrics. Nested ones go by "group/dotted.name": MLflow's pages have a
                section for each group.
            histogram: bins of the latent histogram.
            figures: a folder of figures.
            prefix: put before all names, to tell several evaluations of a model apart.
            tags: what else is to be known of it.
        """
        values = {
            f"{prefix}{name.replace('.', '/', 1)}": value
            for name, value in flatten(metrics).items()
        }
        description = ", ".join(
            f"{prefix}{name} {value:.4g}" for name, value in metrics.items() if name in DESCRIBED
        )
        named = {f"{prefix}{name}": tag for name, tag in (tags or {}).items()}
        named["mlflow.note.content"] = description
        self._record("batch", metrics=values, tags=named, time=now())
        bins = histogram.to_csv(index=False)
        self._record("text", text=bins, name=f"{prefix}latent_histogram.csv")
        self._record("files", folder=figures, name=f"{prefix}figures")

    def end(self, status: str) -> None:
        """End the run: FINISHED, FAILED or KILLED."""
        self._record("end", status=status, time=now())

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
            self._spool(f"{error}; ")
        except BaseException:  # Ctrl-C while a server does not answer
            self._spool()
            raise
        else:
            if self.folder is not None:
                remove_spooled(self.folder)
        finally:
            if self.lock is not None:
                self.lock.release()

    def _spool(self, why: str | None = None) -> None:
        """Spool what is pending; a disk that is full is no reason for a training to end.

        Args:
            why: if it is for good, to be told.
        """
        if self.folder is None:
            stamp = time.strftime("%Y%m%d-%H%M%S")
            name = re.sub(r"[^\w.-]+", "-", f"{stamp} {self.run['name']} {uuid.uuid4().hex[:6]}")
            self.folder = self.root / "mlflow-spool" / name
        try:
            if self.lock is None:
                lock = spool_lock(self.root, self.folder)
                lock.acquire()
                self.lock = lock
            run = self.run | {"resumed": True}
            self.pending = save_spooled(self.folder, run, self.pending)
        except (OutputError, OSError) as error:
            warn(f"{why or ''}what MLflow has not taken of this run is not kept: {error}")
        else:
            if why:
                folder = self.folder.relative_to(self.root)
                how = "upload it with `python -m aae.tracking.sync`"
                warn(f"{why}the rest of this run is kept in {folder}, {how}")

    def _record(self, kind: str, **arguments: Any) -> None:
        self.pending.append((kind, arguments))
        if not self.away:
            try:
                self._write_pending()
            except (StoreAwayError, TrackingError) as error:
                if isinstance(error, TrackingError) and not self.begun:
                    self.pending.clear()
                    raise
                self._is_away()
                warn(f"{error}; going on, what it misses will be recorded at the end")
            except BaseException:  # Ctrl-C while a server does not answer: not to be asked again
                self._is_away()
                raise

    def _is_away(self) -> None:
        self.away = True
        # It may have taken what it has not answered to: what the run has is to be asked anew.
        self.run["resumed"], self.store = True, None

    def _write_pending(self) -> None:
        if self.store is None:
            self.store = connect(self.root)
        self.store.write(self.run, self.pending)
        self.begun = True


def now() -> int:
    """Return the milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def warn(message: str) -> None:
    """Print a warning."""
    print(f"warning: {message}", file=sys.stderr, flush=True)
