"""A training stage, with tracking, progress, and resumption from a snapshot."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd

from aae.data import prepared_digest, prepared_meta
from aae.params import Params
from aae.pipeline.parameters import stage_parameters
from aae.pipeline.resume import keep_snapshots
from aae.progress import show_epochs
from aae.tracking.run import Run, training_run
from aae.training import Training
from aae.training.snapshots import Snapshots


@dataclass
class Session:
    """A running training stage.

    Attributes:
        stage: its name.
        training: what it trains.
        notes: JSON values that grow with the training; snapshots keep them. "history" holds the
            losses of all epochs.
        run: the run that records it.
        snapshots: its snapshots.
    """

    stage: str
    training: Training
    notes: dict[str, list]
    run: Run
    snapshots: Snapshots

    @property
    def history(self) -> pd.DataFrame:
        """The losses, one row for each epoch."""
        return pd.DataFrame(self.notes["history"])

    def train(self, after_epoch: Callable[[int], None] | None = None) -> None:
        """Train to the end.

        Args:
            after_epoch: called with 0 before the training, and with the number of every epoch
                after it.
        """
        history = self.notes["history"]
        for losses in history:  # of a resumed training, whose run may lack some
            self.run.log_epoch(losses)
        if after_epoch and not self.snapshots.resumed:
            after_epoch(0)

        epochs = self.training.epochs(self.snapshots.save_when_due)
        for losses in show_epochs(epochs, self.training.settings.epochs, self.stage):
            history.append(losses)
            self.run.log_epoch(losses)
            if after_epoch:
                after_epoch(len(history))


def follow(training: Training) -> None:
    """Train to the end with the leader; only the leader shows, records and writes."""
    for _ in training.epochs():
        pass


@contextmanager
def training_session(
    stage: str, params: Params, training: Training, *notes: str, reused: bool = False
) -> Iterator[Session]:
    """Start or resume a training stage; its run and its snapshots end with the block.

    Args:
        stage: its name.
        params: all parameters.
        training: the training at its start.
        notes: names of additional lists in the notes.
        reused: whether other trials of a sweep may need the same training.
    """
    kept: dict[str, list] = {name: [] for name in ("history", *notes)}
    determined_by = stage_parameters(stage, params)
    prior = params.prior if "prior" in determined_by else "none"
    # Replace "auto" by the values that it stands for on this machine.
    determined_by |= {"precision": training.precision, "device": training.model.device.type}
    logged = {"data": params.data.model_dump(), **determined_by}
    every = params.snapshots.every
    with (
        keep_snapshots(stage, determined_by, every, training, kept, reused) as (snapshots, name),
        training_run(stage, prior, params.seed, logged, name) as run,
    ):
        run.log_dataset(prepared_meta()["source"], prepared_digest())
        yield Session(stage, training, kept, run, snapshots)
