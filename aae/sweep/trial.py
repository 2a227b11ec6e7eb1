"""One trial of a sweep: its way to a machine, what it does there, and its way back.

The functions travel to machines that have the packages of this project and not its code, so this
imports the standard library alone.
"""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# Lines of a trial's output that are kept.
LOG_LINES = 30
# Ends the command, and all that it has started, as soon as nobody holds the other end of the pipe
# any more: a worker that is killed cannot do it.
GUARD = 'exec 3<&0 </dev/null; (cat <&3 >/dev/null; kill -KILL 0) & exec "$@" 3<&-'

# DVC's run cache passes over stages with outputs that are in git and no metrics, as trainings have;
# put into it, they need not run again in the next copy of the project.
REMEMBER = """
from dvc.repo import Repo

repo = Repo()
with repo.lock:
    for stage in repo.index.stages:
        repo.stage_cache.save(stage)
"""


def pack() -> bytes:
    """Return an archive of the git repository in this folder: its newest commit and its files.

    Files are as they are on disk, committed or not; those that git ignores are left out.
    """
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, capture_output=True, check=True).stdout
    archive = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=archive, mode="w:gz") as tar:
        # A clone without the commits before the newest, which may be missing here as well.
        clone = ["git", "clone", "--quiet", "--no-checkout", "--depth=1", Path.cwd().as_uri()]
        subprocess.run([*clone, folder], check=True)
        subprocess.run(["git", "reset", "--quiet"], cwd=folder, check=True)
        tar.add(Path(folder, ".git"), ".git")
        for name in filter(None, os.fsdecode(listed).split("\0")):
            if os.path.lexists(name):  # not deleted here
                tar.add(name)
    return archive.getvalue()


def run_trial(
    project: bytes,
    sweep: str,
    reference: str,
    overrides: Sequence[str],
    variables: Mapping[str, str],
) -> tuple[bytes, str]:
    """Run a trial as a DVC experiment in a copy of the project.

    Args:
        project: what :func:`pack` has returned.
        sweep: id of the sweep; its trials on one machine share DVC's cache and their snapshots.
        reference: under which git is to have the experiment.
        overrides: parameters, each as `key=value`.
        variables: of its environment.

    Returns:
        The experiment as a git bundle, empty if it has failed, and the end of its output.
    """
    root, name = _folder(sweep), reference.rpartition("/")[2]
    copy = root / ".dvc" / "tmp" / "exps" / name
    shutil.rmtree(copy, ignore_errors=True)  # of an attempt that was killed
    copy.mkdir(parents=True)
    extract(project, copy, "tar_filter")  # links may lead anywhere, as they do here
    config = f"[cache]\n    dir = {root / '.dvc' / 'cache'}\n"
    (copy / ".dvc" / "config.local").write_text(config, encoding="utf-8")
    own = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_"))}
    environment = own | dict(variables) | {
        # The stages' `python` is the one that has the packages.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_SITE_CACHE_DIR": str(root / "site"),
    }  # fmt: skip
    changes = [f"--set-param={override}" for override in overrides]
    command = [sys.executable, "-m", "dvc", "exp", "run", f"--name={name}", *changes]
    log, bundle = (copy.with_name(f"{name}.{kind}") for kind in ("log", "bundle"))
    try:
        code = _run_guarded(command, copy, environment, log)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join(lines[-LOG_LINES:])
        if code:
            return b"", tail
        remember = [sys.executable, "-c", REMEMBER]  # saves time or, on a full disk, does not
        subprocess.run(remember, cwd=copy, env=environment, check=False, capture_output=True)
        create = ["git", "bundle", "create", "--quiet", str(bundle), reference, "--not", "HEAD"]
        subprocess.run(create, cwd=copy, check=True)
        return bundle.read_bytes(), tail
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def unpack(bundle: bytes, reference: str) -> None:
    """Add an experiment to the git repository in this folder.

    Args:
        bundle: what :func:`run_trial` has returned.
        reference: under which git is to have it.
    """
    with tempfile.NamedTemporaryFile(suffix=".bundle") as file:
        file.write(bundle)
        file.flush()
        fetch = ["git", "fetch", "--quiet", "--no-write-fetch-head", file.name]
        subprocess.run([*fetch, f"{reference}:{reference}"], check=True)


def pack_spool(sweep: str) -> bytes:
    """Return an archive of the records of a sweep here that MLflow has not taken, empty if none."""
    spool, archive = _folder(sweep) / "mlflow-spool", io.BytesIO()
    if spool.exists():
        with tarfile.open(fileobj=archive, mode="w") as file:
            file.add(spool, spool.name)
    return archive.getvalue()


def leave_machine(sweep: str) -> None:
    """Delete all that the trials of a sweep have left on this machine."""
    shutil.rmtree(_folder(sweep), ignore_errors=True)


def extract(packed: bytes, folder: Path, filter_name: str) -> None:
    """Extract an archive.

    Args:
        packed: the archive.
        folder: where to.
        filter_name: what may be in it, a filter of tarfile; before Python 3.11.4, which knows none,
            anything.
    """
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extraction_filter = getattr(tarfile, filter_name, None)
        archive.extractall(folder)


def _folder(sweep: str) -> Path:
    """Return the folder of a sweep on this machine.

    Its copies of the project are where those of DVC's queue are in a repository, so that this
    folder is the root to which snapshots and MLflow's spool belong.
    """
    folder = Path(tempfile.gettempdir()) / f"aae-sweep-{sweep}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _run_guarded(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path
) -> int:
    """Run a command to its end, or to the end of this process; return its exit status."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-c", GUARD, "guard", *command], cwd=folder, env=environment,
            stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    assert process.stdin is not None
    try:
        # Not wait(): when Ray cancels a trial, it interrupts Python but no system call.
        while process.poll() is None:
            time.sleep(0.1)
    finally:
        process.stdin.close()
        process.wait()
    return process.returncode
