"""What a stage finds around it: repository, DVC experiment, MLflow's store, others at work."""

import io
import os
import re
import subprocess
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psutil
import torch
from filelock import FileLock
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from aae.errors import without_password
from aae.files import write_text


def project_root(start: Path) -> Path:
    """Return the repository's root, seen from a folder in it.

    Queued experiments run in copies of the repository below `.dvc/tmp`, which are deleted
    afterwards: what is tracked belongs to the repository around them.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        if folder.name == ".dvc":
            return folder.parent
    for folder in (start, *start.parents):
        if (folder / ".dvc").is_dir():
            return folder
    return start


def git(*arguments: str) -> str | None:
    """Return what git says of this folder's repository, None if it refuses or is not there."""
    try:
        command = ["git", *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def locked(root: Path, name: str) -> FileLock:
    """Return a lock of a repository for one purpose, such as "mlflow" for creating a store."""
    path = root / ".dvc" / "tmp" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def mlflow_experiment() -> str:
    """Return the name of MLflow's experiment."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or "aae"


def store_uri(root: Path) -> str:
    """Return the address of MLflow's store: ``MLFLOW_TRACKING_URI``, or `mlflow.db` in the root.

    Files and folders in it are relative to the repository, and not to the copy of it in which a
    queued experiment runs, and which is then deleted.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{root / uri.removeprefix('sqlite:///')}"
    is_folder = not re.match(r"[a-z][a-z0-9+.-]*:|databricks", uri, re.IGNORECASE)
    if uri.startswith("file:") or is_folder:
        # MLflow puts what comes out here into the environment: next time it comes in.
        return (root / (uri if is_folder else unquote(urlsplit(uri).path))).resolve().as_uri()
    return uri


def address(root: Path) -> str:
    """Say which store and experiment runs go to, without a password."""
    return f"{without_password(store_uri(root))}, experiment {mlflow_experiment()}"


def share_cores() -> None:
    """Let torch use this stage's share of the cores.

    The workers of DVC's queue (`dvc queue start -j 2`) and a stage outside of the queue get equal
    shares: threads that outnumber the cores wait for each other, and small networks train up to
    ten times slower. ``OMP_NUM_THREADS`` in the environment sets another number.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        queued = any("queue-worker" in command for command in _ancestors())
        workers = sum("queue-worker" in command for command in _commands(psutil.process_iter()))
        at_work = workers if queued else workers + 1
        torch.set_num_threads(max(1, torch.get_num_threads() // at_work))


def undo_overrides(path: Path) -> None:
    """Put params.yaml back as it was before a `dvc exp run -S …` whose values are refused.

    DVC writes the values into the workspace's params.yaml and leaves them there when the experiment
    fails. Each gets the value of the run before, or else the committed one. All the rest stays as
    it is, with the comments and edits that DVC has left; if it is what is committed, so is the
    file.

    Args:
        path: params.yaml in the current folder.
    """
    in_workspace = os.environ.get("DVC_EXP_NAME") and project_root(Path.cwd()) == Path.cwd()
    # Once each: a command that starts `dvc` for the user has the same words in its own line.
    changes = list(dict.fromkeys(x for command in _ancestors() for x in _overrides(command)))
    if not (in_workspace and changes):
        return
    show = ["git", "show", f"HEAD:./{path}"]
    committed = subprocess.run(show, capture_output=True, text=True, encoding="utf-8", check=False)
    if committed.returncode != 0:
        return
    committed_values = YAML(typ="safe").load(committed.stdout)
    before = _parameters_before() or committed_values
    yaml, text = YAML(), io.StringIO()
    yaml.width = 1000  # no line is broken that was not before
    with locked(Path.cwd(), "params"):  # several processes of a training may refuse them at once
        current = path.read_text(encoding="utf-8")
        values = yaml.load(current)
        done = [_put_back(values, before, change) for change in changes]
        # DVC drops some comments when it writes the file; it adds none.
        if values == committed_values and _comments(current) <= _comments(committed.stdout):
            text.write(committed.stdout)
        else:
            yaml.dump(values, text)
        if text.getvalue() != current:
            write_text(path, text.getvalue())
    print(f"{path}: {', '.join(done)}", flush=True)


def _parameters_before() -> dict | None:
    """Return the parameters of the run before, which dvc.lock has until they are let through."""
    if os.environ.get("DVC_STAGE") != "check_params":
        return None
    try:
        lock = YAML(typ="safe").load(Path("dvc.lock").read_text(encoding="utf-8"))
        return lock["stages"]["check_params"]["params"]["params.yaml"]
    except (OSError, YAMLError, LookupError, TypeError):  # nothing has run yet
        return None


def _put_back(values: dict, before: dict, change: str) -> str:
    """Give the parameter of an override the value that it had before, if it is known; say which."""
    key = change.lstrip("+~").partition("=")[0]
    *sections, last = key.split(".")
    now, then = (_section(x, sections) for x in (values, before))
    if last in then:
        now[last] = then[last]
        return f"{key}={then[last]} again"
    if change.startswith("+"):  # DVC has added it
        now.pop(last, None)
        return f"{key} removed"
    return f"{key} left as it is"


def _section(values: Any, names: list[str]) -> dict:
    """Return a section of nested parameters, an empty one if there is no such section."""
    for name in names:
        values = values.get(name) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else {}


def _overrides(command: list[str]) -> list[str]:
    """What a `dvc exp run` sets, as it says so; nothing for any other command."""
    from dvc.cli import DvcParserError
    from dvc.cli.parser import get_main_parser

    words = list(dropwhile(lambda word: word not in ("exp", "experiments"), command))
    if "run" not in words:
        return []
    try:
        options, _ = get_main_parser().parse_known_args(words)
    except DvcParserError:  # of another program
        return []
    return [change.removeprefix("params.yaml:") for change in options.set_param]


def _comments(text: str) -> set[str]:
    return set(re.findall("#.*", text))


def _ancestors() -> list[list[str]]:
    """Command lines of the processes that started this one."""
    return list(_commands(psutil.Process().parents()))


def _commands(processes: Iterator[psutil.Process] | list[psutil.Process]) -> Iterator[list[str]]:
    for process in processes:
        try:
            yield process.cmdline()
        except psutil.Error:  # it has ended, or belongs to somebody else
            continue
