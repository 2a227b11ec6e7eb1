"""Records of runs that MLflow has not taken yet, on disk until it does.

A spooled run is a folder of `mlflow-spool/` in the root of the repository. Its run.json says which
run it is and holds what is to be recorded, in order; arrays and files lie beside it.
"""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from aae.errors import TrackingError
from aae.workspace import locked
from aae.files import replacing

# What is to be recorded: its kind, and arguments that are JSON values, arrays or paths.
Record = tuple[str, dict[str, Any]]


def spooled(root: Path) -> list[Path]:
    """Return the folders of all spooled runs, the oldest first."""
    return sorted(path.parent for path in (root / "mlflow-spool").glob("*/run.json"))


def spool_lock(root: Path, folder: Path) -> FileLock:
    """Return the lock of a spooled run; the process has it that records in it or uploads it."""
    return locked(root, f"spool-{folder.name}")


def save_spooled(folder: Path, run: dict[str, Any], records: list[Record]) -> list[Record]:
    """Write a run to its folder, whole or not at all, with copies of the files that it needs.

    Returns:
        The records, with the paths of these copies.

    Raises:
        OutputError: if it cannot be written.
    """
    with replacing(folder) as temporary:
        temporary.mkdir()
        stored = []
        for number, (kind, arguments) in enumerate(records):
            values = {
                name: _store(value, temporary, f"{number}-{name}")
                for name, value in arguments.items()
            }
            stored.append([kind, values])
        content = json.dumps({"run": run, "records": stored}, indent=1)
        (temporary / "run.json").write_text(content, encoding="utf-8")
        previous = folder.with_name(f"{folder.name}.previous")
        if folder.exists():
            folder.replace(previous)  # a name under which it is found if this is killed now
    if previous.exists():
        remove_spooled(previous)
    return [
        (
            kind,
            {k: folder / f"{n}-{k}" / v.name if isinstance(v, Path) else v for k, v in x.items()},
        )
        for n, (kind, x) in enumerate(records)
    ]


def remove_spooled(folder: Path) -> None:
    """Delete a run that has been uploaded, here or by another process at the same time."""
    (folder / "run.json").unlink(missing_ok=True)  # first, since what it lists must be complete
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # others are left in it
        folder.parent.rmdir()


def load_spooled(folder: Path) -> tuple[dict[str, Any], list[Record]]:
    """Read a run and its records from its folder.

    Raises:
        FileNotFoundError: if the run is not there any more.
        TrackingError: if it cannot be read.
    """
    try:
        content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        records = [
            (kind, {name: _load(value, folder) for name, value in arguments.items()})
            for kind, arguments in content["records"]
        ]
        return content["run"], records
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        if not (folder / "run.json").exists():
            raise FileNotFoundError(folder) from error
        raise TrackingError(f"it cannot be read: {error!r}") from error


def _store(value: object, folder: Path, name: str) -> object:
    if isinstance(value, np.ndarray):
        np.save(folder / f"{name}.npy", value)
        return {"array": f"{name}.npy"}
    if isinstance(value, Path):
        (folder / name).mkdir()
        copy = shutil.copytree if value.is_dir() else shutil.copy2
        copy(value, folder / name / value.name)
        return {"path": f"{name}/{value.name}"}
    return value


def _load(value: object, folder: Path) -> object:
    match value:
        case {"array": str(name)}:
            return np.load(folder / name, allow_pickle=False)
        case {"path": str(name)}:
            return folder / name
        case _:
            return value
