"""Snapshots of a running training, from which it goes on after it was killed.

Each training has a folder of its own below `snapshots/` in the root of the repository, named after
all that determines its outcome: no snapshot of another configuration, other data or other code is
ever used. In it are the two newest snapshots, whose names end with the digest of their content.
"""

import hashlib
import json
import os
import platform
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from ruamel.yaml import YAML
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from aae.training.distributed import ranks
from aae.errors import OutputError, SnapshotError
from aae.workspace import project_root
from aae.files import replacing, tree_digest
from aae.training.loop import Training

# Snapshots of a training that are kept.
KEPT = 2
# The largest share of a training's time that goes into writing them, however slow the disk is.
SHARE = 0.01
# The one key of their metadata; its number changes when older ones can no longer be read.
FORMAT = "aae-snapshot-1"


class Snapshots:
    """The snapshots of one training.

    Args:
        folder: where they are.
        every: seconds between two.
        training: the training.
        notes: JSON values that grow with it; :meth:`resume` sets them back.

    Attributes:
        id: names the training from its first start to its end, however often it was killed.
        resumed: whether the training goes on from a snapshot.
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
        self.id = _training_id(folder)

    def resume(self) -> None:
        """Bring the training to where its newest good snapshot was taken, if there is one."""
        for path in sorted(self.folder.glob("*.safetensors"), reverse=True):
            try:
                state, notes = read_snapshot(path)
                if notes.keys() != self.notes.keys():
                    raise SnapshotError("its notes are not those of this training")
                self.training.load_state(state)
            except SnapshotError as error:
                print(f"warning: {path} is passed over: {error}", file=sys.stderr, flush=True)
                path.unlink(missing_ok=True)  # lest it be kept as the newest of those to come
                continue
            self.notes |= notes
            self.resumed, self.saved_step = True, self.training.step
            print(f"going on from {self.where()}", flush=True)
            return

    def save_when_due(self, prepare: Callable[[], None] = lambda: None) -> bool:
        """Take a snapshot if it is time to, and say so; if it cannot be written, warn and go on.

        Args:
            prepare: called before.
        """
        start = time.monotonic()
        if start < self.due:
            return False
        prepare()
        try:
            self.save()
        except OutputError as error:
            print(f"warning: no snapshot: {error}", file=sys.stderr, flush=True)
        end = time.monotonic()
        self.due = end + max(self.every, (end - start) / SHARE)
        return True

    def save(self) -> None:
        """Take a snapshot, and remove all but the newest."""
        write_snapshot(self.folder, self.training.step, self.training.state(), self.notes)
        self.saved_step = self.training.step
        for path in sorted(self.folder.glob("*.safetensors"))[:-KEPT]:
            path.unlink(missing_ok=True)

    def where(self) -> str:
        """Say where the training goes on after it was killed now."""
        epoch, step = divmod(self.saved_step, self.training.steps_per_epoch)
        return f"epoch {epoch + 1}, step {step + 1} of {self.training.steps_per_epoch}"


def write_snapshot(
    folder: Path, step: int, state: Mapping[str, Tensor], notes: Mapping[str, Any]
) -> None:
    """Write a snapshot, whole or not at all.

    Raises:
        OutputError: if it cannot be written.
    """
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    content = save(tensors, metadata={FORMAT: json.dumps(notes)})
    digest = hashlib.sha256(content).hexdigest()[:32]
    with replacing(folder / f"{step:012}-{digest}.safetensors") as temporary:
        temporary.write_bytes(content)


def read_snapshot(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state and the notes in a snapshot; nothing in the file is run.

    Raises:
        SnapshotError: if it cannot be read, is damaged, or of another version.
    """
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest()[:32] != path.stem.partition("-")[2]:
            raise SnapshotError("it is damaged")
        with safe_open(path, framework="pt") as file:
            notes = json.loads((file.metadata() or {}).get(FORMAT, "null"))
        if not isinstance(notes, dict):
            raise SnapshotError("it is no snapshot of this version")
        return load(content), notes
    except (OSError, ValueError, SafetensorError) as error:
        raise SnapshotError(f"it cannot be read: {error}") from error


@contextmanager
def keep_snapshots(
    stage: str,
    params: Mapping[str, Any],
    every: float,
    training: Training,
    notes: dict[str, Any],
) -> Iterator[Snapshots]:
    """Let a training go on where it was killed, and keep snapshots of it until the block ends well.

    Args:
        stage: name of the stage in dvc.yaml.
        params: the parameters that determine its outcome.
        every: seconds between two snapshots.
        training: the training at its start, changed in place.
        notes: JSON values that grow with it, changed in place.

    Raises:
        OutputError: if no folder for them can be made.
    """
    folder, lock = _claim(project_root(Path.cwd()) / "snapshots", training_key(stage, params))
    snapshots = None
    try:
        snapshots = Snapshots(folder, every, training, notes)
        snapshots.resume()
        yield snapshots
        # Renamed first: another process may claim the name while this one is still deleting.
        try:
            done = folder.rename(folder.with_name(f".done-{uuid.uuid4()}"))
            shutil.rmtree(done, ignore_errors=True)
        except FileNotFoundError:
            pass  # somebody has deleted it
        except OSError as error:
            print(f"warning: {folder} is to be deleted: {error}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        if snapshots is None:
            raise
        again = "goes on from" if snapshots.saved_step else "begins again at"
        command = "same `dvc exp run`" if os.environ.get("DVC_EXP_NAME") else "next `dvc repro`"
        print(f"{stage} {again} {snapshots.where()} with the {command}", file=sys.stderr)
        raise
    finally:
        lock.release()


def training_key(stage: str, params: Mapping[str, Any]) -> str:
    """Name a training after all that determines its outcome.

    That is what DVC runs it again for, its parameters and all that its stage in dvc.yaml depends on
    (code, packages, data, the trained autoencoder), and the processor, GPU and number of ranks, on
    which the last digits of arithmetic depend.
    """
    depends_on = YAML(typ="safe").load(Path("dvc.yaml"))["stages"][stage]["deps"]
    processor = [platform.machine(), torch.backends.cpu.get_cpu_capability(), torch.__version__]
    if params.get("device") == "cuda":
        processor.append(torch.cuda.get_device_name())
    determined_by = [params, tree_digest(*map(Path, depends_on)), processor, ranks()]
    content = json.dumps(determined_by, sort_keys=True)
    return f"{stage}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def _claim(root: Path, key: str) -> tuple[Path, FileLock]:
    """Return a folder for a training, and the lock on it that this process holds.

    Workers of a queue may run the very same training side by side: each has a folder of its own.
    One that a killed training has left comes first.
    """
    for folder in chain(sorted(root.glob(f"{key}.*")), (root / f"{key}.{n}" for n in count(1))):
        lock = FileLock(folder / "lock", blocking=False)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            return folder, lock
        except (Timeout, FileNotFoundError):  # claimed by another, or just removed by it
            continue
        except OSError as error:
            raise OutputError(f"{folder} cannot be made: {error.strerror or error}") from error
    raise AssertionError  # `count` does not end


def _training_id(folder: Path) -> str:
    """Read the training's name from its file, or make one and write it there."""
    if trial := os.environ.get("AAE_TRIAL"):
        # Of a sweep, which begins again elsewhere when its machine has died, and this disk with it.
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{trial} {folder.stem}"))
    path = folder / "training.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(uuid.UUID(json.loads(path.read_text(encoding="utf-8"))["id"]))
    name = str(uuid.uuid4())
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"id": name}), encoding="utf-8")
    return name
