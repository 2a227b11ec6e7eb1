import os
import sys
from pathlib import Path

import pytest
import torch
from projects import run, run_mounted
from support import write_params

SCRIPT = """
'''What this stage does.'''
from aae.errors import DataError
from aae.pipeline.stage import run_stage

def main(params):
    print("prior", params.prior)
    {work}

if __name__ == "__main__":
    run_stage(main, __doc__{arguments})
"""


@pytest.fixture
def run_script(tmp_path: Path):
    def run_script(work: str, *arguments: str, threads: str = "1", stage: str = "", **changes):
        (tmp_path / "script.py").write_text(SCRIPT.format(work=work, arguments=stage))
        write_params(tmp_path / "params.yaml", changes)
        command = ["python", "script.py", *arguments]
        return run(command, tmp_path, check=False, OMP_NUM_THREADS=threads)

    return run_script


def test_the_work_gets_checked_parameters(run_script):
    result = run_script("pass", prior="gamma")
    assert (result.returncode, result.stdout, result.stderr) == (0, "prior gamma\n", "")


def test_a_wrong_parameter_ends_before_the_work(run_script):
    result = run_script("pass", latent_dim=0)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: latent_dim: 0 is wrong")


def test_only_a_stage_that_needs_the_device_asks_for_it(run_script):
    settings = {"device": "cpu", "precision": "tf32"}
    assert run_script("pass", **settings).stderr.startswith("error: precision: 'tf32' needs")
    assert run_script("pass", stage=", needs_device=False", **settings).returncode == 0


def test_too_little_memory_is_one_line(run_script):
    result = run_script("import torch; torch.empty(10**15)")
    assert result.returncode == 1
    assert result.stderr.startswith("error: not enough memory: ")
    assert result.stderr.count("\n") == 1


def test_an_error_of_the_projects_own_ends_in_one_line(run_script):
    result = run_script("raise DataError('no image is of class 9')")
    assert (result.returncode, result.stderr) == (1, "error: no image is of class 9\n")


def test_a_file_that_cannot_be_read_is_one_line(run_script):
    result = run_script("open('script.py/history.csv')")
    assert (result.returncode, result.stderr) == (
        1,
        "error: script.py/history.csv: Not a directory\n",
    )


def test_an_error_of_ours_keeps_its_traceback(run_script):
    result = run_script("1 / 0")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_ctrl_c_ends_without_a_traceback(run_script):
    result = run_script("raise KeyboardInterrupt")
    assert (result.returncode, result.stderr) == (130, "interrupted\n")


def test_help_says_what_the_stage_does_and_where_parameters_stand(run_script):
    result = run_script("pass", "--help", latent_dim=0)
    assert result.returncode == 0
    assert "What this stage does." in result.stdout
    assert "params.yaml" in result.stdout


def test_many_codes_at_one_place_do_not_end_the_process(run_script):
    """In a stage, SciPy's balanced tree would, since numbers next to 0 become 0 there."""
    work = """
    import numpy as np
    from aae.evaluation.distances import c2st_accuracy
    elsewhere = np.random.default_rng(0).uniform(1, 2, (1000, 2))
    print(c2st_accuracy(np.zeros((100, 2)), elsewhere))
    """
    result = run_script(work)
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "1.0")


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="this torch has no MKL")
def test_the_number_of_threads_does_not_change_a_bit(run_script):
    # The sums of a layer and of the loss are split among threads. Without a countermeasure, each of
    # these numbers depends on the threads on some type of processor.
    work = """
    import hashlib, torch
    from aae.training.phases import reconstruction_loss
    generator = torch.Generator().manual_seed(0)
    for batch, outputs in ((100, 2), (10, 100)):
        hidden, weights = (torch.rand(n, 1000, generator=generator) for n in (batch, outputs))
        codes = torch.nn.functional.linear(hidden, weights)
        print(hashlib.sha256(codes.numpy().tobytes()).hexdigest())
    for _ in range(10):
        images = torch.rand(2, 400, 1, 28, 28, generator=generator)
        print(reconstruction_loss(*images).item())
    print(torch.get_num_threads())
    """
    first, second = (run_script(work, threads=threads).stdout.splitlines() for threads in "12")
    assert (first.pop(), second.pop()) == ("1", "2")
    assert len(first) == 13
    assert first == second


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("100000 100000", 1),
        pytest.param("150000 100000", 2, marks=pytest.mark.slow),
        pytest.param("max 100000", None, marks=pytest.mark.slow),
    ],
)
def test_threads_follow_the_quota_of_a_container(tmp_path, quota, expected):
    """The file of the second version of control groups; `docker run --cpus 1.5` writes it."""
    work = "import torch; print(torch.get_num_threads())"
    (tmp_path / "script.py").write_text(SCRIPT.format(work=work, arguments=""))
    write_params(tmp_path / "params.yaml", {})
    (tmp_path / "groups").mkdir()
    (tmp_path / "groups" / "cpu.max").write_text(f"{quota}\n")
    script = 'mount --bind groups /sys/fs/cgroup && "$PYTHON" script.py'
    result = run_mounted(script, tmp_path, PYTHON=sys.executable, OMP_NUM_THREADS=None)
    assert (result.returncode, result.stderr) == (0, "")
    here = len(os.sched_getaffinity(0))
    assert int(result.stdout.split()[-1]) == min(expected or here, here)


# Simulates a machine with twelve cores.
TWELVE = """
import joblib, torch
from aae.pipeline.stage import set_threads
joblib.cpu_count = lambda: {cores}
torch.set_num_threads(12)
set_threads()
print(torch.get_num_threads())
"""


@pytest.mark.parametrize(
    ("folder", "cores", "variable", "expected"),
    [
        (".", 12, None, 12),
        (".", 3, None, 3),  # a container with a quota
        (".dvc/tmp/exps/tmp1", 12, None, 1),
        (".dvc/tmp/exps/tmp1", 12, "5", 12),  # torch has read the variable itself
    ],
)
def test_a_queued_experiment_has_one_thread_and_others_have_all_cores(
    tmp_path, folder, cores, variable, expected
):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    command = ["python", "-c", TWELVE.format(cores=cores)]
    result = run(command, tmp_path / folder, OMP_NUM_THREADS=variable)
    assert result.stdout == f"{expected}\n"
