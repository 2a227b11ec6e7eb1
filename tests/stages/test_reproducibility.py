"""The real pipeline gives the same bytes again, even after a kill or with a full disk."""

import os
import random
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from projects import (
    EVALUATION,
    LONG,
    check_store,
    copy_project,
    end,
    made_once,
    outputs,
    run,
    run_mounted,
    start,
    wait_for_epoch,
)
from ruamel.yaml import YAML

EPOCHS = LONG["train_ae.epochs"]
# One epoch of networks whose sums torch divides among its threads.
WIDE = EVALUATION | {"train_ae.epochs": 1, "train_aae.epochs": 2}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A project whose trainings were never interrupted."""
    return made_once(tmp_path_factory, "whole", LONG)


@pytest.mark.slow
def test_killed_at_twenty_random_points_it_ends_in_the_same_bytes(whole, tmp_path):
    project = copy_project(tmp_path / "killed", LONG)
    points = random.Random(0)
    # Leave out the end of a stage: DVC trains again if it has not recorded the stage yet.
    for stage in ("train_ae", "train_aae"):
        for epoch in sorted(points.randrange(EPOCHS - 1) for _ in range(10)):
            process = start(["dvc", "repro"], project)
            wait_for_epoch(process, stage, epoch)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=points.uniform(0, 0.5))
            end(process, signal.SIGKILL)
    result = run(["dvc", "repro"], project)
    assert result.stdout.count("resuming from epoch") == 1
    assert "is skipped" not in result.stderr
    assert outputs(project) == outputs(whole)
    assert not list((project / "snapshots").iterdir())
    check_store(project)


@pytest.mark.slow
def test_after_ctrl_c_it_goes_on(whole, tmp_path):
    project = copy_project(tmp_path / "interrupted", LONG)
    process = start(["dvc", "repro"], project)
    wait_for_epoch(process, "train_aae", 4)
    printed = end(process, signal.SIGINT)
    assert "train_aae resumes from epoch" in printed
    assert "Traceback" not in printed
    assert "train_aae" not in YAML(typ="safe").load(project / "dvc.lock")["stages"]
    result = run(["dvc", "repro"], project)
    assert "resuming from epoch" in result.stdout
    assert outputs(project) == outputs(whole)
    check_store(project)


@pytest.mark.long
def test_an_experiment_in_a_folder_of_its_own_goes_on(whole, tmp_path):
    project = tmp_path / "copy"
    shutil.copytree(whole, project)
    command = ["dvc", "exp", "run", "--temp", "--set-param", "prior=gamma"]
    process = start(command, project)
    wait_for_epoch(process, "train_aae", 4)
    end(process, signal.SIGKILL)
    result = run(command, project)
    assert "resuming from epoch" in result.stdout
    assert "Running stage 'train_ae'" not in result.stdout
    assert not list((project / "snapshots").iterdir())


@pytest.mark.slow
def test_other_surroundings_give_the_same_bytes(tmp_path):
    threads = str(max(2, os.cpu_count() or 1))
    surroundings = {
        "here": {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C.UTF-8"},
        "an der Stelle dort": {
            "OMP_NUM_THREADS": threads, "PYTHONHASHSEED": "2", "TZ": "Asia/Kathmandu",
            "LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8", "COLUMNS": "40",
        },
    }  # fmt: skip
    found = []
    for folder, environment in surroundings.items():
        project = copy_project(tmp_path / folder, WIDE)
        run(["dvc", "repro"], project, **environment)
        found.append(outputs(project))
    assert found[0] == found[1]
    # Run everything again, without the records of the first run in MLflow.
    (project / "mlflow.db").unlink()
    shutil.rmtree(project / "mlartifacts")
    run(["dvc", "repro", "--force"], project)
    assert outputs(project) == found[0]


def mounted(script: str, project: Path, stage: str) -> tuple[int, str, str]:
    """Run a stage in a namespace where a shell script has mounted a file system on a folder."""
    command = f"{script} && stages/run python stages/{stage}.py; code=$?; ls -A models; exit $code"
    result = run_mounted(command, project)
    return result.returncode, result.stdout, result.stderr


FULL = "mount -t tmpfs -o size=1m none"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A project with prepared data, whose model is larger than a megabyte."""
    short = LONG | {"train_ae.epochs": 2, "train_aae.epochs": 2}
    root = copy_project(tmp_path_factory.mktemp("prepared"), short)
    run(["dvc", "repro", "prepare_data"], root)
    return root


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_training_goes_on_when_there_is_space(prepared):
    code, printed, errors = mounted(f"{FULL} models", prepared, "train_ae")
    assert code == 1
    assert errors == ("error: models/ae.safetensors cannot be written: No space left on device\n")
    assert printed.splitlines()[-1].startswith("train_ae 2/2"), "nothing is left in models/"
    result = run(["python", "stages/train_ae.py"], prepared)
    assert "resuming from epoch" in result.stdout
    assert (prepared / "models" / "ae.safetensors").exists()


@pytest.mark.slow
def test_without_space_for_snapshots_the_training_warns_and_ends(prepared):
    (prepared / "snapshots").mkdir(exist_ok=True)
    code, printed, errors = mounted(f"{FULL} snapshots", prepared, "train_ae")
    assert code == 0, errors
    assert "warning: no snapshot was written: " in errors
    assert "No space left on device" in errors
    assert "ae.safetensors" in printed


@pytest.mark.slow
def test_a_folder_that_is_read_only_is_one_line_before_time_is_spent(prepared):
    script = "mount --bind models models && mount -o remount,bind,ro models"
    code, printed, errors = mounted(script, prepared, "train_ae")
    assert code == 1
    assert errors.count("\n") == 1
    assert errors.startswith("error: models/")
    assert errors.endswith("cannot be written: Read-only file system\n")
    assert "train_ae 1/" not in printed
