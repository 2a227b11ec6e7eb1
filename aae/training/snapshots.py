"""Snapshots of a running training, from which it resumes after it was killed.

Each training has a folder, which keeps its two newest snapshots. The name of a snapshot ends with
the digest of its content.
"""

import hashlib
import io
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from aae.errors import OutputError, SnapshotError
from aae.files import replacing
from aae.training.loop import Training

# Number of snapshots to keep; the older one replaces a newest one that is damaged.
KEEP = 2
# Largest share of a training's time for writing snapshots, even if the disk is slow.
TIME_SHARE = 0.01


class Snapshots:
    """The snapshots of one training.

    Args:
        folder: folder of the snapshots.
        every: seconds between two snapshots.
        training: the training.
        notes: JSON values that grow with the training; :meth:`resume` restores them.

    Attributes:
        resumed: whether the training has resumed from a snapshot.
        saved_step: number of steps before the newest snapshot.
    """

    def __init__(
        self, folder: Path, every: float, training: Training, notes: dict[str, Any]
    ) -> None:
        self.folder, self.every = folder, every
        self.training, self.notes = training, notes
        self.resumed, self.saved_step = False, 0
        self.due = time.monotonic() + every
        for half_written in folder.glob(".*.partial"):
            shutil.rmtree(half_written)

    def resume(self) -> None:
        """Restore the training from its newest intact snapshot, if there is one."""
        for path in sorted(self.folder.glob("*.pt"), reverse=True):
            try:
                state, notes = read_snapshot(path)
                if notes.keys() != self.notes.keys():
                    raise SnapshotError("its notes are not those of this training")
                self.training.load_state_dict(state)
            except SnapshotError as error:
                print(f"warning: {path} is skipped: {error}", file=sys.stderr, flush=True)
                path.unlink(missing_ok=True)  # or it would count as the newest one
                continue
            self.notes |= notes
            self.resumed, self.saved_step = True, self.training.step
            print(f"resuming from {self.where()}", flush=True)
            return

    def save_when_due(self) -> bool:
        """Take a snapshot if one is due; print a warning if it cannot be written.

        Returns:
            Whether a snapshot was due.
        """
        start = time.monotonic()
        if start < self.due:
            return False
        try:
            self.save()
        except OutputError as error:
            print(f"warning: no snapshot was written: {error}", file=sys.stderr, flush=True)
        end = time.monotonic()
        self.due = end + max(self.every, (end - start) / TIME_SHARE)
        return True

    def save(self) -> None:
        """Take a snapshot, and delete all but the newest ones."""
        write_snapshot(self.folder, self.training.step, self.training.state_dict(), self.notes)
        self.saved_step = self.training.step
        for path in sorted(self.folder.glob("*.pt"))[:-KEEP]:
            path.unlink(missing_ok=True)

    def where(self) -> str:
        """Return the position from which the training would resume if it were killed now."""
        if self.saved_step >= self.training.steps:
            return "its end"
        epoch, step = divmod(self.saved_step, self.training.steps_per_epoch)
        return f"epoch {epoch + 1}, step {step + 1} of {self.training.steps_per_epoch}"


def write_snapshot(
    folder: Path, step: int, state: Mapping[str, Any], notes: Mapping[str, Any]
) -> None:
    """Write a snapshot, completely or not at all.

    Raises:
        OutputError: if the snapshot cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({"state": state, "notes": notes}, buffer)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()[:32]
    with replacing(folder / f"{step:012}-{digest}.pt") as temporary:
        temporary.write_bytes(content)


def read_snapshot(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the state and the notes in a snapshot without executing code from the file.

    Raises:
        SnapshotError: if the snapshot cannot be read or is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SnapshotError(f"it cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest()[:32] != path.stem.partition("-")[2]:
        raise SnapshotError("it is damaged")
    try:
        snapshot = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return snapshot["state"], snapshot["notes"]
    except Exception as error:  # torch raises errors of any type for a file that is not a snapshot
        raise SnapshotError(f"it is not a snapshot of this version: {error}") from error
