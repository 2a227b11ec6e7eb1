"""The repository that a stage runs in: its root, its locks, its git."""

import os
import subprocess
from pathlib import Path

from filelock import FileLock


def project_root(start: Path) -> Path:
    """Return the root of the repository that a folder belongs to.

    Queued and `--temp` experiments run in copies of the repository below its `.dvc/tmp`, which DVC
    deletes afterwards. Files that must outlive an experiment belong in the original repository.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        if folder.name == ".dvc":
            return folder.parent
    for folder in (start, *start.parents):
        if (folder / ".dvc").is_dir():
            return folder
    return start


def in_copy() -> bool:
    """Return whether this folder is a copy of the repository that a queued experiment runs in."""
    return ".dvc" in Path.cwd().resolve().parts


def experiment() -> str:
    """Return the name of the running DVC experiment; empty if none is running."""
    return os.environ.get("DVC_EXP_NAME", "")


def git(*arguments: str) -> str | None:
    """Return the output of git in this folder; None if it fails or is not installed."""
    try:
        command = ["git", *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def locked(root: Path, name: str) -> FileLock:
    """Return a repository's lock for one purpose, such as "mlflow" for creating a store."""
    path = root / ".dvc" / "tmp" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)
