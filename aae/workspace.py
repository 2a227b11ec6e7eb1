"""The repository that a stage runs in: its root, its locks, its git."""

import os
import shlex
import stat
import subprocess
from collections import Counter
from pathlib import Path

from filelock import FileLock

from aae.files import naming

# A working tree with more than this is not copied: images or models in it are not ignored by git.
LARGEST_COPY, MOST_FILES = 200 * 2**20, 20_000
# What to do where there is no commit, and in a shallow clone.
NO_COMMIT = (
    "this is not a git repository with a commit: run `git init` and commit the project first"
)
UNSHALLOW = "the history is incomplete: run `git fetch --unshallow` first"


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
    """Return a repository's lock for one purpose, such as "mlflow" for creating a store.

    Raises:
        OutputError: if its folder cannot be made.
    """
    path = root / ".dvc" / "tmp" / f"{name}.lock"
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def is_shallow(root: Path) -> bool:
    """Return whether a repository is a shallow clone.

    DVC runs a queued or `--temp` experiment in a copy of it, but cannot fetch the results from
    there, and does not say so.
    """
    return git("-C", str(root), "rev-parse", "--is-shallow-repository") == "true"


def obstacle_to_a_copy() -> str | None:
    """Return what prevents a copy of this working tree for another place; None if nothing does.

    A copy has the files that git knows, and those that it neither knows nor ignores. DVC copies a
    folder in which git knows no file with everything in it, and follows the links in it. The reason
    names the files, and says what to do.
    """
    sizes: dict[str, int] = {}
    known = listed("--cached")
    for name in known:
        if not Path(name).is_symlink() and (reason := _measure(name, sizes, known=True)):
            return reason
    for name in listed("--others", "--exclude-standard", "--directory"):
        if reason := _measure(name.rstrip("/"), sizes):
            return reason
    if len(sizes) > MOST_FILES:
        folders = Counter(name.partition("/")[0] for name in sizes if "/" in name)
        fullest = max(folders, key=folders.__getitem__, default="this folder")
        return (
            f"a copy of this folder would have more than {MOST_FILES} files, most of them in "
            f"{fullest}: add it to .gitignore or .git/info/exclude, or move it away"
        )
    total = sum(sizes.values())
    if total > LARGEST_COPY:
        largest = max(sizes, key=sizes.__getitem__)
        return (
            f"a copy of this folder would have {total / 2**20:.0f} MB, of which {largest} has "
            f"{sizes[largest] / 2**20:.0f} MB: {_advice(largest, largest in known)}"
        )
    return None


def listed(*options: str, folder: Path = Path()) -> list[str]:
    """Return the names of the files and folders of a kind that git lists in a folder."""
    names = git("-C", str(folder), "--literal-pathspecs", "ls-files", "-z", *options)
    return [name for name in (names or "").split("\0") if name]


def _measure(name: str, sizes: dict[str, int], known: bool = False) -> str | None:
    """Add the sizes of a file or of the files in a folder, until there are more than allowed.

    Returns:
        What prevents a copy of one of them.
    """
    waiting = [(name, frozenset({_identity(Path.cwd().stat())}))]
    while waiting and len(sizes) <= MOST_FILES:
        path, around = waiting.pop()
        try:
            found = Path(path).stat()
            if _identity(found) in around:
                return f"{path} is a link to a folder that it is in: {_advice(path)}"
            if stat.S_ISDIR(found.st_mode):
                inside = around | {_identity(found)}
                waiting += [(str(below), inside) for below in Path(path).iterdir()]
            elif not stat.S_ISREG(found.st_mode):
                return f"{path} is neither a file nor a folder: {_advice(path, known)}"
            elif not os.access(path, os.R_OK):
                raise PermissionError
            else:
                sizes[path] = found.st_size
        except PermissionError:
            return f"{path} cannot be read: change its permissions, or {_advice(path, known)}"
        except OSError:
            if Path(path).is_symlink():
                return f"{path} is a link to a file that does not exist: {_advice(path)}"
            # Otherwise it was deleted, perhaps in the meantime.
    return None


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _advice(name: str, known: bool = False) -> str:
    """Return what to do so that a file is not copied."""
    folder = name.rpartition("/")[0]
    if not known and folder and git("check-ignore", "--quiet", name) is not None:
        return f"run `git add --intent-to-add {shlex.quote(folder)}`, or move it away"
    forget = f"run `git rm --cached {shlex.quote(name)}` and " if known else ""
    return f"{forget}add it to .gitignore or .git/info/exclude, or move it away"
