"""The spool: records on disk that MLflow has not accepted yet.

A spooled run is a folder in `mlflow-spool/` in the root of the repository. Its run.json identifies
the run. Each record is a numbered folder in it, with the arrays and files of the record.
"""

import json
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
from filelock import FileLock, Timeout

from aae.errors import StoreAwayError, TrackingError
from aae.files import replacing, write_json
from aae.tracking.address import address
from aae.tracking.store import Record, RunInfo, connect
from aae.workspace import locked

RECORDS = {kind.__name__: kind for kind in get_args(Record)}


def spooled(root: Path) -> list[Path]:
    """Return the folders of all spooled runs, the oldest first."""
    return sorted(path.parent for path in (root / "mlflow-spool").glob("*/run.json"))


def spool_lock(root: Path, folder: Path) -> FileLock:
    """Return the lock of a spooled run; a process that writes or uploads the run holds it."""
    return locked(root, f"spool-{folder.name}")


def save_spooled(folder: Path, run: RunInfo, record: Record) -> None:
    """Add a record to a spooled run, completely or not at all, with copies of its files.

    Raises:
        OutputError: if the record cannot be written.
    """
    if not (folder / "run.json").exists():
        write_json(folder / "run.json", asdict(run))
    last = max((int(path.parent.name) for path in folder.glob("*/record.json")), default=0)
    with replacing(folder / f"{last + 1:06}") as part:
        part.mkdir()
        values = {name: _store(value, part, name) for name, value in vars(record).items()}
        content = json.dumps([type(record).__name__, values])
        (part / "record.json").write_text(content, encoding="utf-8")


def remove_spooled(folder: Path) -> None:
    """Delete a run that has been uploaded; another process may delete it at the same time."""
    (folder / "run.json").unlink(missing_ok=True)  # first, since it makes the folder a run
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # other runs are in it
        folder.parent.rmdir()


def load_spooled(folder: Path) -> tuple[RunInfo, dict[Path, Record]]:
    """Return a spooled run and its records in order, by the folder of each.

    Raises:
        FileNotFoundError: if the run no longer exists.
        TrackingError: if the run cannot be read.
    """
    try:
        run = RunInfo(**json.loads((folder / "run.json").read_text(encoding="utf-8")))
        records = {}
        for path in sorted(folder.glob("*/record.json")):
            kind, values = json.loads(path.read_text(encoding="utf-8"))
            loaded = {name: _load(value, path.parent) for name, value in values.items()}
            records[path.parent] = RECORDS[kind](**loaded)
        return run, records
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        if not (folder / "run.json").exists():
            raise FileNotFoundError(folder) from error
        raise TrackingError(f"it cannot be read: {error!r}") from error


def sync(root: Path) -> tuple[int, list[str]]:
    """Upload the spooled runs, the oldest first; records that the store rejects stay spooled.

    Returns:
        The number of uploaded runs, and the reason for each of the others.

    Raises:
        StoreAwayError: if the store does not answer.
        OutputError: if the id of a new run cannot be written.
    """
    count, left = 0, list[str]()
    if not spooled(root):  # perhaps this is no repository, in which a lock would make one
        return count, left
    with locked(root, "spool"):
        for folder in spooled(root):
            lock, name = spool_lock(root, folder), folder.relative_to(root)
            try:
                lock.acquire(blocking=False)
                upload(root, folder)
                count += 1
            except Timeout:
                left.append(f"{name}: a running stage records in it and uploads it itself")
            except FileNotFoundError:  # a training that has just ended has uploaded it
                continue
            except StoreAwayError:
                raise
            except TrackingError as error:
                left.append(f"{name}: {error}; delete that folder if you do not need it")
            finally:
                lock.release()
    return count, left


def upload(root: Path, folder: Path) -> None:
    """Upload a spooled run; each record leaves the disk when it is in the store.

    Raises:
        FileNotFoundError: if the run no longer exists.
        StoreAwayError: if the store does not answer.
        TrackingError: if the run cannot be read, is for another store, or is rejected.
        OutputError: if the id of a new run cannot be written.
    """
    run, records = load_spooled(folder)
    if run.address != address(root):
        raise TrackingError(
            f"it is for {run.address}: set MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME "
            "accordingly"
        )
    store = connect(root)
    if run.id is None:
        store.open(run)
        write_json(folder / "run.json", asdict(run))  # after a kill, the same run continues
    for part, record in records.items():
        store.write(run, record)
        (part / "record.json").unlink(missing_ok=True)  # first, since it names the other files
        shutil.rmtree(part, ignore_errors=True)
    remove_spooled(folder)


def _store(value: Any, part: Path, name: str) -> Any:
    if isinstance(value, np.ndarray):
        np.save(part / f"{name}.npy", value)
        return {"array": f"{name}.npy"}
    if isinstance(value, Path):
        (part / name).mkdir()
        copy = shutil.copytree if value.is_dir() else shutil.copy2
        copy(value, part / name / value.name)
        return {"path": f"{name}/{value.name}"}
    return value


def _load(value: Any, part: Path) -> Any:
    match value:
        case {"array": str(name)}:
            return np.load(part / name, allow_pickle=False)
        case {"path": str(name)}:
            return part / name
        case _:
            return value
