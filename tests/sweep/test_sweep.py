"""The sweep, on real clusters of Ray on this machine."""

import csv
import math
import os
import signal
import subprocess
from pathlib import Path

import mlflow
import pandas as pd
import psutil
import pytest
import ray
from projects import SMALL, copy_project, run, runs, start
from ray import cluster_utils
from rich.console import Console
from support import OF_CATEGORIES, write_params

from aae.cli import main
from aae.evaluation.measures import HEADLINES
from aae.sweep.sweep import draw

LATENT = "reports/metrics/latent.json"
# An edit of stages/train_aae.py in the copies: on a machine with a pipe, a training that has begun
# writes its process id and its experiment to the pipe, and stops.
TRAINING = "        session.train(look_at_codes)\n"
STOPPING = (
    '        if "AAE_TEST_PIPE" in __import__("os").environ:\n'
    '            Path(__import__("os").environ["AAE_TEST_PIPE"]).write_text(\n'
    "                f\"{__import__('os').getpid()} {__import__('os').environ['DVC_EXP_NAME']}\"\n"
    "            )\n"
    '            __import__("signal").pause()\n'
)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A project without measures, whose trainings stop where a test needs it."""
    root = tmp_path_factory.mktemp("original")
    copy_project(root, SMALL)
    stage = root / "stages" / "train_aae.py"
    text = stage.read_text()
    assert text.count(TRAINING) == 1
    stage.write_text(text.replace(TRAINING, STOPPING + TRAINING))
    # The edit is not committed, but must be a part of every trial.
    return root


@pytest.fixture
def project(original, tmp_path) -> Path:
    """A copy of ``original``."""
    copy = tmp_path / "project"
    run(["cp", "-r", str(original), str(copy)], tmp_path)
    return copy


def sweep(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(
        ["aae", "sweep", *arguments],
        project, check=False, PYTHONPATH=str(project), **environment,
    )  # fmt: skip


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed=0,1", "prior=gaussian,gama"], "seed=0 prior=gama: prior: 'gama' is not in"),
        (["latent_dim=2,0"], "latent_dim=0: latent_dim: 0 is wrong: Input should be greater"),
        (["latent_dims=2,8"], "latent_dims=2: latent_dims: 'latent_dims' is not a parameter; did"),
        (["regression.overrides.seed=1"], "regression.overrides.seed=1: regression.overrides.s"),
        (["seed=range(5,5)"], "seed=range(5,5): there are no values"),
        (["seed=range(0"], "seed=range(0: no viable alternative at input"),
        (["dvc.yaml:seed=0"], "dvc.yaml:seed=0: only parameters of params.yaml can be set"),
        (["data.source=mnist"], "data.source=mnist: data.root: 'data/raw' is below this folder"),
        (["data.source=photos"], "data.source=photos: data.source: 'photos' is below this folder"),
        (["seed=0", "--cpus", "0"], "--cpus 0 --gpus 0: a trial needs a core"),
        (["seed=0", "--name", "a b"], "--name: 'a b' may have only letters, digits"),
        (["seed=0", "--table", "params.yaml/x.csv"], "params.yaml/x.csv cannot be written"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_named_before_anything_starts(
    original, monkeypatch, arguments, message
):
    monkeypatch.chdir(original)
    with pytest.raises(SystemExit) as ended:
        main(["sweep", *arguments])
    line = ended.value.code  # what Python prints before it exits with 1
    assert isinstance(line, str)
    assert line.startswith(f"error: {message}")
    assert "\n" not in line
    assert not ray.is_initialized()
    assert not (original / "mlflow.db").exists()


def test_the_table_fits_into_80_columns():
    names, measures = ["experiment", "prior", "seed"], HEADLINES.keys() - OF_CATEGORIES
    table = pd.DataFrame(
        [["trial-2", "student_t", "0", False, 2.691, 0.3265, 0.07009, 75.96, None],
         ["trial-1", "gamma", "1", math.nan, math.nan, math.nan, math.nan, math.nan, "it broke"]],
        columns=[*names, *(key for key in HEADLINES if key in measures), "error"],
    ).reindex(columns=[*names, *HEADLINES, "error"])  # fmt: skip
    console = Console(width=80, record=True)
    console.print(draw(table))
    heading, _, first, second = (
        line.replace("│", " ").replace("┃", " ").split()
        for line in console.export_text().splitlines()
    )
    assert heading == ["experiment", "prior", "seed", "follows", "match", "KS", "MSE", "Fréchet"]
    assert first == ["trial-2", "student_t", "0", "False", "2.691", "0.3265", "0.07009", "75.96"]
    assert second == ["trial-1", "gamma", "1", *["failed"] * 5]


def test_a_measure_that_only_some_models_have_is_empty_for_the_others():
    table = pd.DataFrame(
        [["trial-1", "none", 1.5, math.nan, math.nan, None],
         ["trial-2", "semi-supervised", 1.25, 0.034, math.nan, None],
         ["trial-3", "semi-supervised", math.nan, math.nan, math.nan, "it broke"]],
        columns=[
            "experiment", "labels.use", "match_ratio", "classification_error", "cluster_error",
            "error",
        ],
    )  # fmt: skip
    shown = draw(table)
    assert [column.header for column in shown.columns][2:] == ["match", "error"]
    assert [list(column.cells) for column in shown.columns][2:] == [
        ["1.5", "1.25", "failed"], ["", "0.034", "failed"],
    ]  # fmt: skip


def test_outside_of_a_commit_there_is_nothing_to_start_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path / "params.yaml", {})
    with pytest.raises(SystemExit, match="error: this is not a git repository with a commit: run"):
        main(["sweep", "seed=0"])


def refusal(arguments: list[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["sweep", *arguments])
    assert isinstance(ended.value.code, str)
    return ended.value.code


def test_a_large_file_that_git_does_not_ignore_is_named_before_it_is_packed(project, monkeypatch):
    monkeypatch.chdir(project)
    with (project / "images.bin").open("wb") as file:
        file.truncate(3 * 2**30)  # a hole, which takes no space
    assert "images.bin has 3072 MB: add it to .gitignore" in refusal(["seed=1"])


def test_a_temporary_folder_whose_name_is_too_long_for_sockets_is_named(project, monkeypatch):
    monkeypatch.chdir(project)
    for variable in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.setenv(variable, "/tmp/" + 85 * "n")
        assert refusal(["seed=1"]).startswith(f"error: {variable}: '/tmp/nnn")
        monkeypatch.delenv(variable)


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_named(project):
    result = sweep(project, "seed=0", "--address", "127.0.0.1:1")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: --address: no cluster at '127.0.0.1:1'")


def test_without_ray_it_says_what_to_install(project):
    without = "import sys; sys.modules['ray'] = None; from aae.cli import main; main()"
    command = ["python", "-c", without, "sweep", "seed=0"]
    result = run(command, project, False, PYTHONPATH=str(project))
    assert result.returncode == 1
    assert result.stderr == "error: Ray is not installed: pip install 'aae[sweep]'\n"


@pytest.mark.slow
def test_more_cores_than_any_machine_has_are_refused(project):
    result = sweep(project, "seed=0", "--cpus", "10000")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line == "error: --cpus 10000 --gpus 0: no machine of the cluster has that many"


@pytest.fixture(autouse=True)
def at_full_speed(monkeypatch):
    """Give trials the usual priority; with Ray's low one they would wait for other tests."""
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def cluster():
    """A cluster whose first machine, with one core, runs the driver."""
    machines = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    yield machines
    machines.shutdown()


@pytest.mark.long
def test_a_store_that_other_machines_cannot_reach_is_refused(project, cluster):
    cluster.add_node(num_cpus=1, node_ip_address="127.0.0.2")
    result = sweep(project, "seed=0", "--address", cluster.address)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    store = f"sqlite:///{project / 'mlflow.db'}"
    assert line.startswith(f"error: MLFLOW_TRACKING_URI: {store} is a file of this machine")
    server = sweep(
        project, "seed=0", "--address", cluster.address, "--cpus", "2", MLFLOW_TRACKING_URI=store
    )
    assert server.stderr.startswith("error: --cpus 2"), "which is checked first"


@pytest.mark.long
def test_a_machine_that_dies_costs_no_trial(project, cluster, tmp_path):
    pipe, other = tmp_path / "pipe", tmp_path / "other"
    os.mkfifo(pipe)
    other.mkdir()
    doomed = cluster.add_node(
        num_cpus=1, env_vars={"TMPDIR": str(other), "AAE_TEST_PIPE": str(pipe)}
    )
    process = start(
        ["aae", "sweep", "-n", "trial", "prior=gaussian,gamma",
         "--address", cluster.address],
        project, PYTHONPATH=str(project),
    )  # fmt: skip
    pid, killed = pipe.read_text().split()  # blocks until a training on that machine has begun
    training = psutil.Process(int(pid))
    begun = {found.data.tags["dvc_experiment"]: found for found in runs(project, "train_aae")}
    assert begun[killed].info.status == "RUNNING"
    cluster.remove_node(doomed, allow_graceful=False)
    training.wait(timeout=60)  # the machine's processes end with it
    output, errors = process.communicate()
    assert process.returncode == 0, errors

    names = {f"trial-{number}" for number in range(1, 3)}
    rows = read_table(project / "sweeps" / "trial.csv")
    assert {row["experiment"] for row in rows} == names
    ratios = [float(row["match_ratio"]) for row in rows]
    assert ratios == sorted(ratios)
    assert {row["prior"] for row in rows} == {"gaussian", "gamma"}
    assert all(row["error"] == "" for row in rows)

    # MLflow has every trial once, and the killed one in the run that it had begun.
    tracked = runs(project, "train_aae")
    assert sorted(found.data.tags["dvc_experiment"] for found in tracked) == sorted(names)
    by_name = {row["experiment"]: row for row in rows}
    client = mlflow.MlflowClient()
    # Each machine trains the autoencoder once, also for the trial that moved to it.
    autoencoders = runs(project, "train_ae")
    assert len(autoencoders) == 2
    for found in [*tracked, *autoencoders]:
        assert found.info.status == "FINISHED"
        assert found.info.artifact_uri.startswith((project / "mlartifacts").as_uri())
        steps = [
            x.step for x in client.get_metric_history(found.info.run_id, "reconstruction_loss")
        ]
        assert steps == [1, 2, 3]
    for found in tracked:
        row = by_name[found.data.tags["dvc_experiment"]]
        assert float(row["match_ratio"]) == found.data.metrics["match_ratio"]
        assert found.data.tags["prior"] == row["prior"]
        assert found.data.tags["threads"] == "1"
        (logged,) = found.outputs.model_outputs
        assert mlflow.pyfunc.load_model(f"models:/{logged.model_id}")
    assert begun[killed].info.run_id in {found.info.run_id for found in tracked}
    for row in rows:
        assert f"{float(row['match_ratio']):.4g}" in output

    # A trial and `dvc exp run` give the same results, to the last byte.
    of_trial = run(["dvc", "exp", "list", "--name-only"], project).stdout.split()
    assert set(of_trial) == names
    prior = f"prior={by_name[killed]['prior']}"
    run(["dvc", "exp", "run", "-n", "alone", "-S", prior], project)
    alone = (project / LATENT).read_bytes()
    reference = run(
        ["git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{killed}"], project
    )
    shown = ["git", "show", f"{reference.stdout.strip()}:{LATENT}"]
    assert run(shown, project).stdout.encode() == alone
    alone_run = next(
        x for x in runs(project, "train_aae") if x.data.tags["dvc_experiment"] == "alone"
    )
    again = next(x for x in tracked if x.data.tags["dvc_experiment"] == killed)
    changing = {"dvc_experiment", "training", "threads", "mlflow.log-model.history"}
    for name in alone_run.data.tags.keys() - changing:
        assert again.data.tags[name] == alone_run.data.tags[name], name
    assert again.data.params == alone_run.data.params
    assert again.data.metrics == alone_run.data.metrics


@pytest.mark.slow
def test_a_trial_that_fails_does_not_stop_the_others(project):
    result = sweep(project, "-n", "rates", "prior=gaussian", "train_ae.learning_rate=1e30,1e-3")
    assert result.returncode == 1
    good, bad = read_table(project / "sweeps" / "rates.csv")
    assert (good["experiment"], good["error"]) == ("rates-2", "")
    assert (bad["experiment"], bad["match_ratio"]) == ("rates-1", "")
    assert bad["error"].startswith("reconstruction_loss is nan in epoch 1")
    assert "rates-1 (prior=gaussian train_ae.learning_rate=1e+30) failed" in result.stderr
    assert result.stderr.endswith("1 of 2 trials succeeded: sweeps/rates.csv\n")
    assert [x.info.status for x in runs(project, "train_aae")] == ["FINISHED"]
    # A second sweep with the same names is an error.
    again = sweep(project, "-n", "rates", "seed=0,1")
    assert again.stderr.startswith("error: --name: there is an experiment rates-2;")


@pytest.mark.long
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_after_ctrl_c_nothing_runs_and_no_run_is_left_open(project, tmp_path, ending):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start(
        ["aae", "sweep", "-n", "stopped", "--cpus", "1", "seed=0,1,2,3"],
        project, PYTHONPATH=str(project), AAE_TEST_PIPE=str(pipe),
        TMPDIR=str(tmp_path), RAY_TMPDIR="/tmp",  # a socket's path must be short
    )  # fmt: skip
    training = psutil.Process(int(pipe.read_text().split()[0]))
    if ending == signal.SIGINT:
        os.killpg(process.pid, ending)  # as a terminal does
    else:
        process.send_signal(ending)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"
    training.wait(timeout=60)
    assert not [p for p in psutil.process_iter(["environ"]) if _is_of(p, pipe)]
    assert not list(tmp_path.glob("aae-sweep-*"))
    assert {x.info.status for x in runs(project, "train_aae")} == {"KILLED"}


def _is_of(process: psutil.Process, pipe: Path) -> bool:
    return (process.info["environ"] or {}).get("AAE_TEST_PIPE") == str(pipe)
