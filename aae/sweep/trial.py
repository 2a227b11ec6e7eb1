"""One trial of a sweep: its way to a machine, its run there, and the return of its results.

Ray sends these functions to machines that have the packages of this project but not its code.
Therefore this module imports only the standard library.
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

# Number of lines of a trial's output that are kept.
LOG_LINES = 30
# This script kills the command, and everything that it has started, when the other end of the pipe
# is closed. A worker that is killed cannot do that itself.
GUARD = 'exec 3<&0 </dev/null; (cat <&3 >/dev/null; kill -KILL 0) & exec "$@" 3<&-'


def pack() -> bytes:
    """Return an archive of the git repository in this folder: its newest commit and its files.

    It contains the files on disk, committed or not, except those that git ignores.
    """
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, capture_output=True, check=True).stdout
    archive = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=archive, mode="w:gz") as tar:
        # A clone of the newest commit alone, because this may itself be a shallow clone.
        clone = ["git", "clone", "--quiet", "--no-checkout", "--depth=1", Path.cwd().as_uri()]
        subprocess.run([*clone, folder], check=True)
        subprocess.run(["git", "reset", "--quiet"], cwd=folder, check=True)
        tar.add(Path(folder, ".git"), ".git")
        for name in filter(None, os.fsdecode(listed).split("\0")):
            if os.path.lexists(name):  # git also lists files that were deleted from the tree
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
        project: the archive that :func:`pack` has returned.
        sweep: id of the sweep; its trials on a machine share DVC's cache and their snapshots.
        reference: git reference of the experiment.
        overrides: parameters, each as `key=value`.
        variables: environment variables.

    Returns:
        The experiment as a git bundle, empty if the trial has failed, and the end of its output.
    """
    root, name = _folder(sweep), reference.rpartition("/")[2]
    copy = root / ".dvc" / "tmp" / "exps" / name
    shutil.rmtree(copy, ignore_errors=True)  # left by an attempt that was killed
    copy.mkdir(parents=True)
    extract(project, copy, "tar_filter")  # links may lead anywhere, as in the original
    config = f"[cache]\n    dir = {root / '.dvc' / 'cache'}\n"
    (copy / ".dvc" / "config.local").write_text(config, encoding="utf-8")
    own = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_"))}
    environment = own | dict(variables) | {
        # The stages must run the `python` that has the packages.
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
        create = ["git", "bundle", "create", "--quiet", str(bundle), reference, "--not", "HEAD"]
        subprocess.run(create, cwd=copy, check=True)
        return bundle.read_bytes(), tail
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def unpack(bundle: bytes, reference: str) -> None:
    """Add an experiment to the git repository in this folder.

    Args:
        bundle: the bundle that :func:`run_trial` has returned.
        reference: git reference of the experiment.
    """
    with tempfile.NamedTemporaryFile(suffix=".bundle") as file:
        file.write(bundle)
        file.flush()
        fetch = ["git", "fetch", "--quiet", "--no-write-fetch-head", file.name]
        subprocess.run([*fetch, f"{reference}:{reference}"], check=True)


def pack_spool(sweep: str) -> bytes:
    """Return an archive of the sweep's records that MLflow has not accepted; empty without any."""
    spool, archive = _folder(sweep) / "mlflow-spool", io.BytesIO()
    if spool.exists():
        with tarfile.open(fileobj=archive, mode="w") as file:
            file.add(spool, spool.name)
    return archive.getvalue()


def leave_machine(sweep: str) -> None:
    """Delete everything that the trials of a sweep have left on this machine."""
    shutil.rmtree(_folder(sweep), ignore_errors=True)


def extract(packed: bytes, folder: Path, filter_name: str) -> None:
    """Extract an archive.

    Args:
        packed: the archive.
        folder: destination.
        filter_name: a filter of tarfile for its content; Python before 3.11.4 has no filters.
    """
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extraction_filter = getattr(tarfile, filter_name, None)
        archive.extractall(folder)


def _folder(sweep: str) -> Path:
    """Return the folder of a sweep on this machine.

    It contains the copies of the project where DVC's queue would put them in a repository.
    Therefore this folder is the root that snapshots and MLflow's spool belong to.
    """
    folder = Path(tempfile.gettempdir()) / f"aae-sweep-{sweep}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _run_guarded(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path
) -> int:
    """Run a command until it or this process ends; return its exit status."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-c", GUARD, "guard", *command], cwd=folder, env=environment,
            stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    assert process.stdin is not None
    try:
        # Not wait(), because Ray cancels a trial by interrupting Python, but not a system call.
        while process.poll() is None:
            time.sleep(0.1)
    finally:
        process.stdin.close()
        process.wait()
    return process.returncode
