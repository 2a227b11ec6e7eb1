import subprocess
import sys

from conftest import ROOT, run

from aae.experiments import project_root

THREADS = ["python", "-c", "from aae.experiments import share_cores; print(share_cores())"]


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
