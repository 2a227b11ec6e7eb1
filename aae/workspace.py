"""The repository that a stage runs in: its root, its locks, its git."""

import os
import shlex
import stat
import subprocess
from pathlib import Path

from filelock import FileLock

# A working tree with more than this is not copied: images or models in it are not ignored by git.
LARGEST_COPY, MOST_FILES = 200 * 2**20, 20_000


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
        result = subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return os.fsdecode(result.stdout).strip("\n")


def locked(root: Path, name: str) -> FileLock:
    """Return a repository's lock for one purpose, such as "mlflow" for creating a store."""
    path = root / ".dvc" / "tmp" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def obstacle_to_a_copy() -> str | None:
    """Return what prevents a copy of this working tree for another place; None if nothing does.

    A copy has the files that git knows, and those that it neither knows nor ignores. The reason
    names the files, and says what to do.
    """
    sizes: dict[str, int] = {}
    advice: dict[str, str] = {}
    for known, options in ((True, ["--cached"]), (False, ["--others", "--exclude-standard"])):
        for name in filter(None, (git("ls-files", "-z", *options) or "").split("\0")):
            forget = f"run `git rm --cached {shlex.quote(name)}` and " if known else ""
            advice[name] = f"{forget}add it to .gitignore or .git/info/exclude, or move it away"
            try:
                found = os.lstat(name)
            except (FileNotFoundError, NotADirectoryError):  # git knows it, but it was deleted
                continue
            if stat.S_ISLNK(found.st_mode):
                if not known and not Path(name).exists():
                    return f"{name} is a link to a file that does not exist: {advice[name]}"
            elif stat.S_ISREG(found.st_mode) and not os.access(name, os.R_OK):
                return f"{name} cannot be read: change its permissions, or {advice[name]}"
            elif not stat.S_ISDIR(found.st_mode):
                sizes[name] = found.st_size
    total = sum(sizes.values())
    if total > LARGEST_COPY:
        largest = max(sizes, key=sizes.__getitem__)
        return (
            f"the files that git does not ignore have {total / 2**20:.0f} MB, of which {largest} "
            f"has {sizes[largest] / 2**20:.0f} MB: {advice[largest]}"
        )
    if len(sizes) > MOST_FILES:
        folders = [name.partition("/")[0] for name in sizes if "/" in name]
        fullest = max(set(folders), key=folders.count, default="this folder")
        return (
            f"git does not ignore {len(sizes)} files, most of them in {fullest}: add it to "
            ".gitignore or .git/info/exclude, or move it away"
        )
    return None
