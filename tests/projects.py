"""Functions that copy the project, run commands in the copies, and check the results."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from filelock import FileLock
from ruamel.yaml import YAML
from support import ROOT, write_params

from aae.files import file_digest

SMALL = {
    "network.hidden": [64],
    "network.discriminator_hidden": [64],
    "train_ae.epochs": 3,
    "train_aae.epochs": 3,
    "eval_latent.draws": 19,
    "eval_latent.references": 2,
    "eval_latent.subset": 100,
    "eval_latent.judge_steps": 20,
    "tracking.histogram_every": 2,
}
EVALUATION = {
    "eval_latent.draws": 19, "eval_latent.references": 2, "eval_latent.subset": 100,
    "eval_latent.judge_steps": 20,
}  # fmt: skip
# Long enough to be killed many times, short enough to be repeated.
LONG = EVALUATION | {
    "network.hidden": [256, 256], "network.discriminator_hidden": [256],
    "train_ae.epochs": 10, "train_aae.epochs": 10, "train_ae.batch_size": 12,
    "train_aae.batch_size": 12, "snapshots.every": 0, "tracking.histogram_every": 4,
}  # fmt: skip


def copy_project(target: Path, changes: dict) -> Path:
    """Copy the project's files into a new git repository, with changed parameters."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    )  # fmt: skip
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("reports/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    (target / "dvc.lock").unlink(missing_ok=True)
    write_params(target / "params.yaml", changes)
    run(["git", "init", "--quiet", "--initial-branch=main"], target)
    commit(target, "project")
    return target


def made_once(factory: pytest.TempPathFactory, name: str, changes: dict) -> Path:
    """A read-only copy of the project after its first `dvc repro`, one for all workers."""

    def make(root: Path) -> None:
        shutil.rmtree(root, ignore_errors=True)
        run(["dvc", "repro"], copy_project(root, changes))
        commit(root, "results")

    return shared(factory, name, make)


def shared(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A file or folder that one worker makes and all workers read."""
    base = factory.getbasetemp()
    path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{path}.lock"):
        complete = Path(f"{path}.complete")
        if not complete.exists():
            make(path)
            complete.touch()
    return path


def copy_results(target: Path) -> None:
    """Commit this project's results that are in git to a copy of the project."""
    for name in run(["git", "ls-files", "reports"], ROOT).stdout.splitlines():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    commit(target, "results")


def commit(repository: Path, message: str) -> None:
    """Commit everything."""
    run(["git", "add", "--all"], repository)
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    run(["git", *identity, "commit", "--quiet", "--message", message], repository)


def start(command: list[str], cwd: Path, **environment: str | None) -> subprocess.Popen[str]:
    """Start a command in a copy of the project; its `python` is the one that runs the tests.

    Tests run in parallel, so the command gets one thread. If a test asks for more, threads that
    wait leave the cores to others, which is many times faster if there are too few cores.

    Args:
        command: the command.
        cwd: the folder that it runs in.
        environment: variables of its environment; None unsets a variable.
    """
    if command[0] in ("dvc", "python", "mlflow"):
        module = [] if command[0] == "python" else ["-m", command[0]]
        command = [sys.executable, *module, *command[1:]]
    elif command[0] == "aae":
        command = [str(Path(sys.executable).parent / "aae"), *command[1:]]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_"))}
    # Bytecode is kept, since many commands run in the same project.
    usual = {
        "PATH": path, "PYTHONDONTWRITEBYTECODE": None,
        "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
    }  # fmt: skip
    wanted = clean | usual | environment
    return subprocess.Popen(
        command, cwd=cwd, env={k: v for k, v in wanted.items() if v is not None}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        # A process that a shell runs in the background ignores Ctrl-C, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def run(
    command: list[str], cwd: Path, check: bool = True, **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a copy of the project and wait for its end."""
    process = start(command, cwd, **environment)
    output, errors = process.communicate()
    if check and process.returncode:
        raise AssertionError(f"{command} ended with {process.returncode}:\n{errors}")
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def run_mounted(
    script: str, cwd: Path, **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a namespace in which it may mount file systems; else skip the test."""
    namespace = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this system lets nobody mount")
    return run([*namespace, script], cwd, check=False, **environment)


def store(project: Path) -> str:
    return f"sqlite:///{project / 'mlflow.db'}"


def runs(project: Path, stage: str) -> list:
    mlflow.set_tracking_uri(store(project))
    return mlflow.search_runs(
        experiment_names=["aae"], filter_string=f"tags.stage = '{stage}'", output_format="list"
    )


def outputs(project: Path) -> dict[str, str]:
    """Digests of dvc.lock and of all outputs of the stages, by path."""
    lock = YAML(typ="safe").load(project / "dvc.lock")
    paths = [
        project / out["path"] for stage in lock["stages"].values() for out in stage.get("outs", [])
    ]
    files = [path for out in paths for path in (sorted(out.rglob("*")) if out.is_dir() else [out])]
    found = [project / "dvc.lock", *(path for path in files if path.is_file())]
    return {str(path.relative_to(project)): file_digest(path) for path in found}


def check_store(project: Path) -> None:
    """Check that each stage has one finished run, with every epoch, image and model once."""
    client = mlflow.MlflowClient(store(project))
    for stage in ("train_ae", "train_aae"):
        (found,) = runs(project, stage)
        assert found.info.status == "FINISHED"
        history = client.get_metric_history(found.info.run_id, "reconstruction_loss")
        assert [metric.step for metric in history] == list(range(1, LONG["train_ae.epochs"] + 1))
        assert len(found.outputs.model_outputs) == 1
        assert len(found.inputs.dataset_inputs) == 1
    images = [item.path for item in client.list_artifacts(found.info.run_id, "images")]
    steps = sorted(int(path.split("+")[2]) for path in images if path.endswith(".webp"))
    assert steps == [0, 1, 4, 8, 10]


def gate(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the gate."""
    command = ["aae", "regression", *arguments]
    return run(command, project, check=False, PYTHONPATH=str(project), **environment)


def wait_for_epoch(process: subprocess.Popen, stage: str, epoch: int) -> None:
    """Wait until a stage has begun and has reported that this epoch or a later one is done."""
    for line in process.stdout:
        done = re.match(rf"Running stage '{stage}'|{stage} (\d+)/", line)
        if done and int(done[1] or 0) >= epoch:
            return
    raise AssertionError(process.stderr.read())


def start_queue(project: Path, *options: str, **environment: str | None) -> None:
    """Start workers of DVC's queue.

    Workers inherit their output. With a pipe, a test would wait for the last of them, and one of
    two may wait forever after the last experiment: its monitor ends with an error if it reads a
    message that the other worker is just writing (dvc-task 0.40).
    """
    command = ["dvc", "queue", "start", *options]
    run(["sh", "-c", f"exec {' '.join(command)} > {os.devnull} 2>&1"], project, **environment)


def wait_for_queue(project: Path) -> str:
    """Wait until no experiment is queued or runs, and return DVC's list of them."""
    while True:
        status = run(["dvc", "queue", "status"], project).stdout
        running = [line.split()[1] for line in status.splitlines() if line.endswith("Running")]
        if running:  # following its log ends with the experiment
            run(["dvc", "queue", "logs", "--follow", running[0]], project, check=False)
        elif "Queued" not in status:
            return status


def end(process: subprocess.Popen, sign: signal.Signals = signal.SIGKILL) -> str:
    """Send a signal to a process and its children; return its output."""
    os.killpg(process.pid, sign)
    output, errors = process.communicate()
    assert process.returncode != 0
    return output + errors
