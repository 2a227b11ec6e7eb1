import subprocess
import sys

from conftest import ROOT, commit, run

from aae.experiments import project_root

THREADS = ["python", "-c", "from aae.experiments import share_cores; print(share_cores())"]


# What the processes of a training do that refuse a value: eight of them, ten times.
REFUSALS = """
import multiprocessing
from pathlib import Path
from aae.experiments import undo_overrides

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


def test_processes_that_refuse_a_value_at_once_put_it_back(tmp_path):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "params.yaml").write_text("device: cpu\n")
    run(["git", "init", "--quiet"], tmp_path)
    commit(tmp_path, "parameters")
    # DVC has let them through: these processes are of a later stage.
    (tmp_path / "dvc.lock").write_text(
        "stages: {check_params: {params: {params.yaml: {device: cuda}}}}\n"
    )
    experiment = ["exp", "run", "-S", "device=cuda"]
    environment = {"PYTHONPATH": str(ROOT), "DVC_EXP_NAME": "refused", "DVC_STAGE": "train_ae"}
    run(["python", "-c", REFUSALS, *experiment], tmp_path, **environment)


def test_queued_experiments_belong_to_the_repository_around_them(tmp_path):
    queued = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1234"
    (queued / ".dvc").mkdir(parents=True)
    assert project_root(queued) == tmp_path
    assert project_root(tmp_path) == tmp_path
    nested = tmp_path / "nested"
    (nested / ".dvc").mkdir(parents=True)
    assert project_root(nested) == nested


def test_cores_are_shared_with_the_workers_of_the_queue():
    alone = int(run(THREADS, ROOT, OMP_NUM_THREADS=None).stdout)
    # What `dvc queue start` would start, but for what it does.
    command = [sys.executable, "-c", "input()", "exp", "queue-worker", "dvc-exp-1"]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(2)]
    shared = int(run(THREADS, ROOT, OMP_NUM_THREADS=None).stdout)
    for worker in workers:
        worker.communicate(b"\n")
    assert shared == max(1, alone // 3)


def test_the_environment_sets_the_number_of_threads():
    assert run(THREADS, ROOT, OMP_NUM_THREADS="1").stdout == "1\n"
