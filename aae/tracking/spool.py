"""The spool: records on disk that MLflow has not accepted yet.

A spooled run is a folder in `mlflow-spool/` in the root of the repository. Its run.json identifies
the run and holds the records in order; arrays and files are next to it.
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
from aae.files import replacing
from aae.tracking.address import address
from aae.tracking.store import Record, RunInfo, connect
from aae.workspace import locked

RECORDS = {kind.__name__: kind for kind in get_args(Record)}
NO_USE = "delete that folder if you do not need it"


def spooled(root: Path) -> list[Path]:
    """Return the folders of all spooled runs, the oldest first."""
    return sorted(path.parent for path in (root / "mlflow-spool").glob("*/run.json"))


def spool_lock(root: Path, folder: Path) -> FileLock:
    """Return the lock of a spooled run; a process that writes or uploads the run holds it."""
    return locked(root, f"spool-{folder.name}")


def save_spooled(folder: Path, run: RunInfo, records: list[Record]) -> list[Record]:
    """Write a run to its folder, completely or not at all, with copies of the files it needs.

    Returns:
        The records, with the paths of these copies.

    Raises:
        OutputError: if the run cannot be written.
    """
    with replacing(folder) as temporary:
        temporary.mkdir()
        stored = []
        for number, record in enumerate(records):
            items = {k: _store(v, temporary, f"{number}-{k}") for k, v in vars(record).items()}
            stored.append([type(record).__name__, items])
        content = json.dumps({"run": asdict(run), "records": stored}, indent=1)
        (temporary / "run.json").write_text(content, encoding="utf-8")
        previous = folder.with_name(f"{folder.name}.previous")
        if folder.exists():
            folder.replace(previous)  # after a kill now, sync finds it there
    if previous.exists():
        remove_spooled(previous)
    return load_spooled(folder)[1]


def remove_spooled(folder: Path) -> None:
    """Delete a run that has been uploaded; another process may delete it at the same time."""
    (folder / "run.json").unlink(missing_ok=True)  # first, since it must not list missing files
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # other runs are in it
        folder.parent.rmdir()


def load_spooled(folder: Path) -> tuple[RunInfo, list[Record]]:
    """Read a run and its records from its folder.

    Raises:
        FileNotFoundError: if the run no longer exists.
        TrackingError: if the run cannot be read.
    """
    try:
        content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        records = [
            RECORDS[kind](**{name: _load(value, folder) for name, value in values.items()})
            for kind, values in content["records"]
        ]
        return RunInfo(**content["run"]), records
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
        OutputError: if the rest of a run cannot be spooled again.
    """
    count, left = 0, []
    with locked(root, "spool"):
        for folder in spooled(root):
            lock, name = spool_lock(root, folder), folder.relative_to(root)
            try:
                lock.acquire(blocking=False)
                _upload(root, folder)
                count += 1
            except Timeout:
                left.append(f"{name}: a running stage records in it and uploads it itself")
            except FileNotFoundError:  # a training that has just ended has uploaded it
                continue
            except StoreAwayError:
                raise
            except TrackingError as error:
                left.append(f"{name}: {error}")
            finally:
                lock.release()
    return count, left


def _upload(root: Path, folder: Path) -> None:
    try:
        run, records = load_spooled(folder)
    except TrackingError as error:
        raise TrackingError(f"{error}; {NO_USE}") from error
    if run.address != address(root):
        raise TrackingError(
            f"it is for {run.address}: set MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME "
            "accordingly"
        )
    store = connect(root)
    try:
        store.write(run, records)
    except BaseException as error:  # also after Ctrl-C, no record may be uploaded twice
        save_spooled(folder, run, records)
        if isinstance(error, TrackingError) and not isinstance(error, StoreAwayError):
            raise TrackingError(f"{error}; {NO_USE}") from error
        raise
    remove_spooled(folder)


def _store(value: Any, folder: Path, name: str) -> Any:
    if isinstance(value, np.ndarray):
        np.save(folder / f"{name}.npy", value)
        return {"array": f"{name}.npy"}
    if isinstance(value, Path):
        (folder / name).mkdir()
        copy = shutil.copytree if value.is_dir() else shutil.copy2
        copy(value, folder / name / value.name)
        return {"path": f"{name}/{value.name}"}
    return value


def _load(value: Any, folder: Path) -> Any:
    match value:
        case {"array": str(name)}:
            return np.load(folder / name, allow_pickle=False)
        case {"path": str(name)}:
            return folder / name
        case _:
            return value
