"""One training on several processes with real `torchrun` and gloo, alone and in the pipeline."""

import json
import math
import os
import re
from pathlib import Path

import psutil
import pytest
import torch
from projects import LONG, check_store, copy_project, outputs, run, start
from servers import free_port
from support import ROOT

from aae.training.distributed import (
    is_leader,
    own_rows,
    part_of,
    ranks,
    sum_over_ranks,
)

# 43 images in batches of 20: in the last batch some ranks have fewer images, or none.
EPOCHS, BATCHES = 17, (20, 20, 3)
TRAINING = """
import json, os, sys
from pathlib import Path
from safetensors.torch import save_file
import torch
from support import STOCHASTIC, make_digits, make_training
from aae.data import KnownLabels
from aae.models import Architecture, Model
from aae.models.categories import Categories
from aae.params import PARAMS, load_params
from aae.training.distributed import is_leader, joined

params, out, use = load_params(PARAMS), Path(sys.argv[1]), sys.argv[2]
settings = params.train_aae.model_copy(update={"batch_size": 20, "epochs": 17})
labels = params.labels.model_copy(update={"use": use})
prior = "swiss_roll" if use == "prior" else params.prior
params = params.model_copy(update={"train_aae": settings, "labels": labels, "prior": prior})
with joined():
    categories = Categories(use=use, count=3)
    model = Model(Architecture(**STOCHASTIC, categories=categories), seed=0)
    digits, classes = make_digits(60), torch.arange(60) % 3
    known = KnownLabels(tuple("abc"), classes[:43], classes[43:])
    training = make_training("train_aae", model, params, digits[:43], digits[43:], known=known)
    step, seen = training.train_batch, []
    training.train_batch = lambda batch: seen.append(len(batch["targets"])) or step(batch)
    losses = list(training.epochs())
    if is_leader():
        out.with_suffix(".json").write_text(json.dumps([losses, seen]))
        out.with_suffix(".leader").write_text(os.environ.get("GROUP_RANK", ""))  # its machine
        save_file(training.averaged.state_dict(), out)
"""

FAILING = """
import os
import torch
from aae.training.distributed import sum_over_ranks
from aae.errors import DataError
from aae.pipeline.stage import run_stage

def main(params):
    if os.environ["RANK"] == "1":
        raise DataError("no images here")
    sum_over_ranks([torch.zeros(1)])

run_stage(main, None)
"""

ENDLESS = """
import sys
import torch
from aae.training.distributed import joined, sum_over_ranks

with joined():
    sys.stdout.write("at work\\n")  # in one piece: both write to one pipe
    sys.stdout.flush()
    while True:
        sum_over_ranks([torch.zeros(1)])
"""
PATHS = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
ALONE = {"PYTHONPATH": os.pathsep.join(filter(None, PATHS))}


def train(
    out: Path, *launchers: list[str], use: str = "semi-supervised"
) -> tuple[list[dict], list[int], bytes]:
    """Train for 51 steps with these commands in parallel; by default with all phases.

    Returns the losses, the number of the leader's images in each batch, and the weights.
    """
    script = out.with_suffix(".py")
    script.write_text(TRAINING)
    started = [start([*words, str(script), str(out), use], ROOT, **ALONE) for words in launchers]
    for process in started:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    return (*json.loads(out.with_suffix(".json").read_text()), out.read_bytes())


def torchrun(*options: str) -> list[str]:
    return ["python", "-m", "torch.distributed.run", *options]


@pytest.mark.parametrize(
    ("processes", "use"),
    [
        pytest.param(2, "semi-supervised", marks=pytest.mark.slow),
        pytest.param(2, "decoder", marks=pytest.mark.slow),
        pytest.param(2, "prior", marks=pytest.mark.slow),
        pytest.param(4, "semi-supervised", marks=pytest.mark.long),
    ],
)
def test_several_processes_train_as_one_does_and_the_same_each_time(tmp_path, processes, use):
    alone, every_image, _ = train(tmp_path / "alone", ["python"], use=use)
    several = torchrun("--standalone", "--nproc-per-node", str(processes))
    together, own_images, weights = train(tmp_path / "together", several, use=use)
    assert every_image == EPOCHS * [*BATCHES]
    assert own_images == EPOCHS * [math.ceil(count / processes) for count in BATCHES]
    assert len(together) == len(alone) == EPOCHS
    for one, other in zip(alone, together, strict=True):
        assert other == pytest.approx(one, rel=1e-4)
    assert together[-1]["reconstruction_loss"] < together[0]["reconstruction_loss"]
    assert train(tmp_path / "again", several, use=use) == (together, own_images, weights)


@pytest.mark.slow
def test_an_error_of_one_process_alone_is_named(tmp_path):
    script = tmp_path / "stage.py"
    script.write_text(FAILING)
    several = torchrun("--standalone", "--nproc-per-node", "2")
    result = run([*several, str(script)], ROOT, check=False, **ALONE)
    assert result.returncode != 0
    assert "rank 1: error: no images here\n" in result.stderr


@pytest.mark.slow
def test_when_torchrun_is_killed_its_processes_end(tmp_path):
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    several = torchrun("--standalone", "--nproc-per-node", "2")
    process = start([*several, str(script)], ROOT, **ALONE)
    printed = [process.stdout.readline() for _ in range(2)]
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, left = psutil.wait_procs(workers, timeout=60)
    for child in left:
        child.kill()
    assert printed == ["at work\n"] * 2
    assert len(workers) >= 2
    assert not left


@pytest.mark.long
def test_processes_on_two_machines_train_as_those_on_one(tmp_path):
    first = ("--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", str(free_port()))
    machines = [torchrun(*first, "--node-rank", rank) for rank in "10"]
    here = torchrun("--standalone", "--nproc-per-node", "2")
    assert train(tmp_path / "two", *machines) == train(tmp_path / "one", here)
    assert (tmp_path / "two.leader").read_text() == "0"


def test_without_torchrun_nothing_is_shared():
    rows = torch.arange(5.0)
    assert (ranks(), is_leader(), part_of(5)) == (1, True, 1.0)
    assert own_rows(rows) is rows
    sum_over_ranks([rows])
    assert rows.tolist() == [0, 1, 2, 3, 4]


LAUNCHER = "torchrun --standalone --nproc-per-node 2"
SHORTER = LONG | {"train_ae.batch_size": 60, "train_aae.batch_size": 60}


def worker(process, stage: str) -> psutil.Process:
    """Return a process of a stage that is not the leader."""
    for child in psutil.Process(process.pid).children(recursive=True):
        if f"stages/{stage}.py" in child.cmdline() and child.environ().get("RANK") == "1":
            return child
    raise AssertionError(f"{stage} has no second process")


@pytest.mark.long
def test_a_worker_that_dies_ends_the_job_which_goes_on_to_the_same_bytes(tmp_path):
    whole = copy_project(tmp_path / "whole", SHORTER)
    run(["dvc", "exp", "run", "--set-param", f"launcher={LAUNCHER}", "train_aae"], whole)
    assert f"stages/run {LAUNCHER} stages/train_aae.py" in (whole / "dvc.lock").read_text()
    check_store(whole)  # one run for each stage: the leader's

    killed = copy_project(tmp_path / "killed", SHORTER | {"launcher": LAUNCHER})
    process = start(["dvc", "repro", "train_aae"], killed)
    for line in process.stdout:
        if re.match(r"train_aae [2-9]/", line):
            break
    worker(process, "train_aae").kill()
    process.communicate()
    assert process.returncode != 0
    assert not (killed / "models" / "aae.safetensors").exists()
    result = run(["dvc", "repro", "train_aae"], killed)
    assert "resuming from epoch" in result.stdout
    assert outputs(killed) == outputs(whole)
    check_store(killed)
