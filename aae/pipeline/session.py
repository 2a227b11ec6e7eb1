"""A training stage: recorded in MLflow, shown, and going on from a snapshot if it was killed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd

from aae.data.data import prepared_digest, prepared_meta
from aae.training.loop import Training
from aae.params import Params
from aae.progress import show_epochs
from aae.tracking.recording import Run
from aae.tracking.runs import training_run
from aae.training.snapshots import Snapshots, keep_snapshots


@dataclass
class Session:
    """A training stage at work.

    Attributes:
        stage: its name.
        training: what it trains.
        notes: JSON values that grow with the training and survive when it is killed. Under
            "history" are the losses of all epochs.
        run: where it is recorded.
        snapshots: where it goes on from.
    """

    stage: str
    training: Training
    notes: dict[str, list]
    run: Run
    snapshots: Snapshots

    @property
    def history(self) -> pd.DataFrame:
        """The losses, a row an epoch."""
        return pd.DataFrame(self.notes["history"])

    def train(self, after_epoch: Callable[[int], None] | None = None) -> None:
        """Train to the end.

        Args:
            after_epoch: called with 0 before the training and with its number after every epoch.
        """
        history = self.notes["history"]
        for losses in history:  # of a training that goes on; the run may lack some
            self.run.log_epoch(losses)
        if after_epoch and not self.snapshots.resumed:
            after_epoch(0)
        epochs = self.training.epochs(self._between_steps)
        for losses in show_epochs(epochs, self.training.settings.epochs, self.stage):
            history.append(losses)
            self.run.log_epoch(losses)
            if after_epoch:
                after_epoch(len(history))

    def _between_steps(self) -> None:
        # The run first: what a snapshot has behind it is not recorded again.
        self.snapshots.save_when_due(self.run.keep)


def follow(training: Training) -> None:
    """Train along with the leader to the end; it alone shows, records and writes."""
    for _ in training.epochs():
        pass


@contextmanager
def training_session(
    stage: str, params: Params, determined_by: Mapping[str, Any], training: Training, *notes: str
) -> Iterator[Session]:
    """Begin a training stage, or go on with it, and end its run and its snapshots with the block.

    Args:
        stage: its name.
        params: all parameters.
        determined_by: those that determine its outcome, nested; they are logged.
        training: the training at its start.
        notes: names of further lists for the notes.
    """
    kept: dict[str, list] = {name: [] for name in ("history", *notes)}
    prior = params.prior if "prior" in determined_by else "none"
    with (
        keep_snapshots(stage, determined_by, params.snapshots.every, training, kept) as snapshots,
        training_run(stage, prior, params.seed, determined_by, snapshots.id) as run,
    ):
        run.log_dataset(prepared_meta()["source"], prepared_digest())
        yield Session(stage, training, kept, run, snapshots)
