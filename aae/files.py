"""Writing of files, completely or not at all, and their digests."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aae.errors import OutputError

if TYPE_CHECKING:  # importing pandas takes half a second, and some stages do not need it
    import pandas as pd


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` when the block ends without an error.

    A file is replaced atomically: after a kill or a loss of power, ``path`` is the old or the new
    file, never half of it, since the content reaches the disk before the file gets its name. A
    folder is exchanged by two renames, since no system call replaces a folder: a kill between them
    leaves no folder at ``path``. After an error, ``path`` is unchanged and the temporary file is
    gone.

    Raises:
        OutputError: if the file or folder cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> target = pathlib.Path(tempfile.mkdtemp()) / "notes.txt"
        >>> with replacing(target) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    # The name is always the same, so that the next attempt removes what a killed process has left.
    folder = path.parent / f".{path.name}.partial"
    try:
        with naming(path):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            temporary = folder / path.name
            yield temporary
            for written in (temporary, *temporary.rglob("*")):
                _to_disk(written)
            if temporary.is_dir() and path.is_dir():
                _swap(temporary, path, folder / "replaced")
            else:
                temporary.replace(path)
            _to_disk(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _swap(new: Path, path: Path, old: Path) -> None:
    """Replace a folder with another; if the second rename fails, restore the old folder."""
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise


def _to_disk(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_writable(*paths: Path) -> None:
    """Check that these files can be written; called before hours of work.

    Raises:
        OutputError: if a file cannot be written; names the first one and the reason.
    """
    for path in paths:
        with naming(path):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if path.exists() and not path.is_file():
                raise OutputError(f"{path} cannot be written: it is not a regular file")
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):
                pass


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into an :class:`OutputError` that names the path."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Mapping) -> None:
    """Write values as JSON, one on each line.

    Raises:
        OutputError: if the file cannot be written, or a value is not finite, which JSON forbids.
    """
    try:
        text = json.dumps(values, indent=2, allow_nan=False)
    except ValueError as error:
        raise OutputError(f"{path} cannot be written: a value is not finite") from error
    write_text(path, text + "\n")


def to_csv(table: "pd.DataFrame", header: bool = True) -> str:
    """Return a table as CSV with numbers in full precision."""
    return table.to_csv(index=False, header=header, lineterminator="\n")


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as CSV."""
    write_text(path, to_csv(table))


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(*paths: Path) -> str:
    """Return the SHA-256 of files, and of all files in folders, including their names."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(path.parent)}\0{file_digest(file)}\0".encode())
    return digest.hexdigest()
