"""The folder for the snapshots of a training stage, and the training that they belong to.

Each training has a separate folder below `snapshots/` in the root of the repository. Its name is a
digest of everything that determines the outcome, so that a training never uses snapshots of other
parameters, data or code.
"""

import hashlib
import json
import os
import platform
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from aae.errors import OutputError
from aae.files import tree_digest, write_json
from aae.pipeline.parameters import dependencies
from aae.training import Training
from aae.training.distributed import ranks
from aae.training.snapshots import Snapshots
from aae.workspace import experiment, project_root


@contextmanager
def keep_snapshots(
    stage: str,
    determined_by: Mapping[str, Any],
    every: float,
    training: Training,
    notes: dict[str, Any],
    reused: bool = False,
) -> Iterator[tuple[Snapshots, str]]:
    """Resume a training that was killed, and keep snapshots of it until the block succeeds.

    Args:
        stage: name of the stage in dvc.yaml.
        determined_by: the parameters that determine the outcome of the training.
        every: seconds between two snapshots.
        training: the training at its start, changed in place.
        notes: JSON values that grow with the training, changed in place.
        reused: whether other trials of a sweep may need the same training.

    Yields:
        The snapshots, and the id of the training from its first start to its end.

    Raises:
        OutputError: if the folder for the snapshots cannot be made.
    """
    root = project_root(Path.cwd()) / "snapshots"
    folder, lock = _claim(root, training_key(stage, determined_by))
    snapshots = None
    try:
        snapshots = Snapshots(folder, every, training, notes)
        snapshots.resume()
        yield snapshots, _training_id(folder)
        if reused and "AAE_TRIAL" in os.environ:  # the sweep deletes them
            snapshots.save()
        else:
            _remove(folder)
    except KeyboardInterrupt:
        if snapshots is None:
            raise
        again = "resumes from" if snapshots.saved_step else "starts again at"
        command = "same `dvc exp run`" if experiment() else "next `dvc repro`"
        print(f"{stage} {again} {snapshots.where()} with the {command}", file=sys.stderr)
        raise
    finally:
        lock.release()


def training_key(stage: str, determined_by: Mapping[str, Any]) -> str:
    """Return a name for a training, with a digest of everything that determines its outcome.

    The digest covers everything for which DVC runs the training again: the parameters and the
    dependencies of the stage (code, packages, data, the trained autoencoder). It also covers CPU,
    GPU and number of processes, and with a user's own networks or bfloat16 on a CPU the number of
    threads, on which the last digits of the arithmetic depend.
    """
    processor = [platform.machine(), torch.backends.cpu.get_cpu_capability(), torch.__version__]
    own_network = determined_by.get("network", {}).get("kind", "mlp") not in ("mlp", "conv")
    if determined_by.get("device") == "cuda":
        processor.append(torch.cuda.get_device_name())
    elif own_network or determined_by.get("precision") == "bf16":
        # The gradients of torch's own convolutions depend on it, see aae/models/conv.py.
        processor.append(f"{torch.get_num_threads()} threads")
    content = [determined_by, tree_digest(*dependencies(stage)), processor, ranks()]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{stage}-{digest[:16]}"


def _claim(root: Path, key: str) -> tuple[Path, FileLock]:
    """Return a folder for a training, and its lock, which this process then holds.

    Workers of a queue may run the same training in parallel, and each needs a separate folder. A
    folder that a killed training has left comes first.
    """
    for folder in chain(sorted(root.glob(f"{key}.*")), (root / f"{key}.{n}" for n in count(1))):
        lock = FileLock(folder / "lock", blocking=False)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            return folder, lock
        except (Timeout, FileNotFoundError):  # another process has claimed or just removed it
            continue
        except OSError as error:
            raise OutputError(f"{folder} cannot be made: {error.strerror or error}") from error
    raise AssertionError  # `count` does not end


def _remove(folder: Path) -> None:
    # Rename first, because another process may claim the name while this one is still deleting.
    try:
        done = folder.rename(folder.with_name(f".done-{uuid.uuid4()}"))
        shutil.rmtree(done, ignore_errors=True)
    except FileNotFoundError:
        pass  # the user may delete it at any time
    except OSError as error:
        print(f"warning: {folder} cannot be deleted: {error}", file=sys.stderr, flush=True)


def _training_id(folder: Path) -> str:
    """Return the id of the training that a folder belongs to; write an id if it has none."""
    path = folder / "training.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(uuid.UUID(json.loads(path.read_text(encoding="utf-8"))["id"]))
    # A trial of a sweep must have the same id on another machine after its first machine has died.
    trial = os.environ.get("AAE_TRIAL")
    name = uuid.uuid5(uuid.NAMESPACE_OID, f"{trial} {folder.stem}") if trial else uuid.uuid4()
    write_json(path, {"id": str(name)})
    return str(name)
