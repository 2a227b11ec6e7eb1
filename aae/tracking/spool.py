"""The spool: records that MLflow has not taken yet, on disk until it does.

A spooled run is a folder of `mlflow-spool/` in the root of the repository. Its run.json says which
run it is and holds the records in order; arrays and files lie beside it.
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
from aae.tracking.store import Record, RunInfo, address, connect
from aae.workspace import locked

RECORDS = {kind.__name__: kind for kind in get_args(Record)}
NO_USE = "delete that folder if it is of no use"


def spooled(root: Path) -> list[Path]:
    """Return the folders of all spooled runs, the oldest first."""
    return sorted(path.parent for path in (root / "mlflow-spool").glob("*/run.json"))


def spool_lock(root: Path, folder: Path) -> FileLock:
    """Return the lock of a spooled run, for the process that records in it or uploads it."""
    return locked(root, f"spool-{folder.name}")


def save_spooled(folder: Path, run: RunInfo, records: list[Record]) -> list[Record]:
    """Write a run to its folder, whole or not at all, with copies of the files that it needs.

    Returns:
        The records, with the paths of these copies.

    Raises:
        OutputError: if it cannot be written.
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
            folder.replace(previous)  # sync finds it there if this process is killed now
    if previous.exists():
        remove_spooled(previous)
    return load_spooled(folder)[1]


def remove_spooled(folder: Path) -> None:
    """Delete a run that has been uploaded, here or by another process at the same time."""
    (folder / "run.json").unlink(missing_ok=True)  # first: what it lists must be complete
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # there are others in it
        folder.parent.rmdir()


def load_spooled(folder: Path) -> tuple[RunInfo, list[Record]]:
    """Read a run and its records from its folder.

    Raises:
        FileNotFoundError: if the run is not there any more.
        TrackingError: if it cannot be read.
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
    """Upload the spooled runs, the oldest first; what the store does not take stays spooled.

    Returns:
        How many were uploaded, and for each of the others the reason why not.

    Raises:
        StoreAwayError: if the store does not answer.
        OutputError: if what is left of a run cannot be spooled again.
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
            except FileNotFoundError:  # just uploaded by a training that has ended
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
    except BaseException as error:  # also Ctrl-C: what is uploaded must not be uploaded twice
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
