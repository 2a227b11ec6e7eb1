import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support import ROOT, commit, run

from aae.workspace import project_root, store_uri

# As on a machine with twelve cores.
SHARE_TWELVE = """
import torch
import torch
from aae.workspace import share_cores

torch.set_num_threads(12)
share_cores()
print(torch.get_num_threads())
"""
THREADS = ["python", "-c", SHARE_TWELVE]


# What the processes of a training do that refuse a value: eight of them, ten times.
REFUSALS = """
import multiprocessing
from pathlib import Path
from aae.workspace import undo_overrides

def refuse(barrier):
    barrier.wait()
    undo_overrides(Path("params.yaml"))

fork = multiprocessing.get_context("fork")
for _ in range(10):
    Path("params.yaml").write_text("device: cuda\\n")
    barrier = fork.Barrier(8)
    processes = [fork.Process(target=refuse, args=[barrier]) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert Path("params.yaml").read_text() == "device: cpu\\n"
"""


@pytest.mark.parametrize(
    "experiment",
    [
        ["exp", "run", "-S", "device=cuda"],
        ["experiments", "run", "--set-param=params.yaml:device=cuda"],
        ["exp", "run", "-fSdevice=cuda", "--set", "device=cuda"],
    ],
    ids=" ".join,
)
def test_processes_that_refuse_a_value_at_once_put_it_back(tmp_path, experiment):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "params.yaml").write_text("device: cpu\n")
    run(["git", "init", "--quiet"], tmp_path)
    commit(tmp_path, "parameters")
    # DVC has let them through: these processes are of a later stage.
    (tmp_path / "dvc.lock").write_text(
        "stages: {check_params: {params: {params.yaml: {device: cuda}}}}\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "DVC_EXP_NAME": "refused", "DVC_STAGE": "train_ae"}
    run(["python", "-c", REFUSALS, *experiment], tmp_path, **environment)


@pytest.mark.parametrize(
    ("named", "store"),
    [
        ("", "sqlite:////my repo/mlflow.db"),
        ("sqlite:///mine.db", "sqlite:////my repo/mine.db"),
        ("sqlite:////other/mine.db", "sqlite:////other/mine.db"),
        ("my store", "file:///my%20repo/my%20store"),
        ("file:store", "file:///my%20repo/store"),
        ("file:///other/a%20store", "file:///other/a%20store"),
        ("postgresql+psycopg2://me:pa:ss@db/mlflow", "postgresql+psycopg2://me:pa:ss@db/mlflow"),
        ("HTTPS://mlflow.example", "HTTPS://mlflow.example"),
        ("databricks", "databricks"),
    ],
)
def test_files_of_a_store_are_in_the_repository_and_addresses_stay(named, store, monkeypatch):
    for _ in range(2):  # MLflow puts what comes out into the environment
        monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
        named = store_uri(Path("/my repo"))
        assert named == store


def test_queued_experiments_belong_to_the_repository_around_them(tmp_path):
    queued = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1234"
    (queued / ".dvc").mkdir(parents=True)
    assert project_root(queued) == tmp_path
    assert project_root(tmp_path) == tmp_path
    nested = tmp_path / "nested"
    (nested / ".dvc").mkdir(parents=True)
    assert project_root(nested) == nested


def test_cores_are_shared_with_the_workers_of_the_queue():
    others = sum("queue-worker" in command for command in commands())  # somebody else's
    # What `dvc queue start` would start, but for what it does.
    command = [sys.executable, "-c", "input()", "exp", "queue-worker", "dvc-exp-1"]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(2)]
    shared = int(run(THREADS, ROOT, OMP_NUM_THREADS=None).stdout)
    for worker in workers:
        worker.communicate(b"\n")
    assert shared == max(1, 12 // (3 + others))


def commands() -> Iterator[list[str]]:
    """Command lines of all processes."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            yield process.cmdline()


def test_the_environment_sets_the_number_of_threads():
    assert run(THREADS, ROOT, OMP_NUM_THREADS="1").stdout == "12\n"  # as torch was told last


def test_a_stage_gets_the_python_of_the_repository_around_it(tmp_path):
    queued = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1234"
    queued.mkdir(parents=True)
    program = tmp_path / ".venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "the repository\'s, with $PYTHONPATH"\n')
    program.chmod(0o755)
    result = run([str(ROOT / "stages" / "run"), "python"], queued, PYTHONPATH=None)
    assert result.stdout == f"the repository's, with {queued}\n"
    program.unlink()  # else, the one that is active
    result = run([str(ROOT / "stages" / "run"), "python", "-c", "print(1)"], queued)
    assert result.stdout == "1\n"
