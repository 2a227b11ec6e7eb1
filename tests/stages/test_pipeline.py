"""The real pipeline with small networks, in a separate git repository."""

import csv
import hashlib
import io
import itertools
import json
import shlex
import shutil
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from page_example import FIGURES
from projects import (
    SMALL,
    made_once,
    outputs,
    run,
    runs,
    start,
    start_queue,
    store,
    wait_for_queue,
)
from ruamel.yaml import YAML
from safetensors import safe_open
from servers import wait_for_line
from support import CONTRACT, NOWHERE, OF_CATEGORIES, ROOT, write_params

from aae.evaluation.evaluation import squared_errors
from aae.evaluation.measures import HEADLINES
from aae.files import file_digest
from aae.models import load_model

EPOCHS = 3
STAGES = ["prepare_data", "train_ae", "train_aae", "eval_latent", "report"]
LOSSES = ["reconstruction_loss", "discriminator_loss", "generator_loss"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The project with small networks after its first `dvc repro`."""
    return made_once(tmp_path_factory, "made", SMALL)


@pytest.fixture(scope="module")
def project(made, tmp_path_factory) -> Path:
    """A copy of ``made``, in which a test may change parameters and run experiments."""
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("copy") / "project"))


@pytest.fixture
def changed(project):
    """Return a function that changes parameters and returns the stages that would run."""
    kept = (project / "params.yaml").read_text()

    def stages_that_run(changes: dict) -> list[str]:
        write_params(project / "params.yaml", SMALL | changes)
        status = json.loads(run(["dvc", "status", "--json"], project).stdout)
        return [stage for stage in STAGES if stage in status]

    yield stages_that_run
    (project / "params.yaml").write_text(kept)


def test_all_declared_files_are_there(project):
    pipeline = YAML(typ="safe").load(project / "dvc.yaml")
    assert list(pipeline["stages"]) == STAGES
    for stage in pipeline["stages"].values():
        for out in stage.get("outs", []) + stage.get("metrics", []):
            path = out if isinstance(out, str) else next(iter(out))
            assert (project / path).exists(), path
    figures = {path.name for path in (project / "reports" / "figures").iterdir()}
    assert figures == {f"{name}.png" for name in FIGURES}


def test_a_second_run_has_nothing_to_do(project):
    result = run(["dvc", "repro"], project)
    assert "Data and pipelines are up to date." in result.stdout
    assert run(["git", "status", "--porcelain"], project).stdout == ""


def test_the_stages_are_chained(project):
    graph = run(["dvc", "dag", "--mermaid"], project).stdout
    nodes = dict(
        line.strip().rstrip('"]').split('["') for line in graph.splitlines() if '["' in line
    )
    edges = {
        tuple(nodes[node] for node in line.strip().split("-->"))
        for line in graph.splitlines()
        if "-->" in line
    }
    assert set(pairwise(STAGES)) <= edges


def test_histories_have_a_row_an_epoch(project):
    ae = pd.read_csv(project / "reports" / "history" / "ae.csv")
    aae = pd.read_csv(project / "reports" / "history" / "aae.csv")
    assert list(ae) == ["epoch", LOSSES[0], f"validation_{LOSSES[0]}"]
    assert list(aae) == ["epoch", *LOSSES, *(f"validation_{name}" for name in LOSSES)]
    histograms = pd.read_csv(project / "reports" / "history" / "aae_histograms.csv")
    assert histograms["epoch"].unique().tolist() == [0, 1, 2, 3]
    for history in (ae, aae):
        assert history["epoch"].tolist() == list(range(1, EPOCHS + 1))
        assert history.notna().all(axis=None)


def test_metrics_of_both_models_are_in_latent_json(project):
    metrics = json.loads((project / "reports" / "metrics" / "latent.json").read_text())
    assert list(metrics) == ["ae", "aae", "ae_mixture", "real"]
    assert metrics["ae_mixture"]["generated_frechet"] > 0
    assert [metrics[name]["posterior"] for name in ("ae", "aae")] == ["deterministic", "gaussian"]
    for model in (metrics["ae"], metrics["aae"]):
        assert model.keys() >= CONTRACT
        floor = model["floor"]["sliced_wasserstein"]["mean"]
        assert model["match_ratio"] == pytest.approx(model["sliced_wasserstein"] / floor)
        assert 0 < model["ks_statistic"] <= 1
        assert 0 < model["reconstruction_mse"] < 0.1


def test_models_carry_what_rebuilds_them(project):
    with safe_open(project / "models" / "aae.safetensors", "pt") as file:
        (content,) = file.metadata().values()
    assert json.loads(content) == {
        "image_shape": [1, 28, 28], "latent_dim": 2, "network": {"kind": "mlp", "hidden": [64]},
        "discriminator_hidden": [64],
        "prior": {"name": "gaussian", "distribution": "Normal", "loc": 0.0, "scale": 5.0},
        "units": "gaussian", "posterior": {"kind": "gaussian", "std": 0.6, "min_std": 0.1},
    }  # fmt: skip


def test_the_models_are_those_with_averaged_weights(project):
    """The last validation losses are theirs; the shift of the codes changes no reconstruction."""
    images = torch.from_numpy(np.load(project / "data" / "prepared" / "validation_images.npy"))
    for name in ("ae", "aae"):
        model = load_model(project / "models" / f"{name}.safetensors")
        error = squared_errors(model.decode(model.encode(images)), images).mean().item()
        history = pd.read_csv(project / "reports" / "history" / f"{name}.csv")
        assert error == pytest.approx(history["validation_reconstruction_loss"].iloc[-1], rel=1e-4)


def test_outputs_hold_nothing_that_changes_from_run_to_run(made):
    files = [path for path in (made / "reports").rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in [*files, *(made / "models").iterdir()])
    run_ids = [found.info.run_id for stage in STAGES for found in runs(made, stage)]
    assert run_ids
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    for word in [str(made), today, *run_ids]:
        assert word.encode() not in content


def test_the_trainings_are_tracked_with_every_epoch(project):
    client = mlflow.MlflowClient(store(project))
    digest = file_digest(project / "models" / "aae.safetensors")
    for stage, losses in (("train_ae", LOSSES[:1]), ("train_aae", LOSSES)):
        (found,) = runs(project, stage)
        assert found.info.status == "FINISHED"
        for name in [*losses, *(f"validation_{loss}" for loss in losses)]:
            history = client.get_metric_history(found.info.run_id, name)
            table = pd.read_csv(project / "reports" / "history" / f"{stage[6:]}.csv")
            assert [metric.step for metric in history] == list(range(1, EPOCHS + 1))
            assert [metric.value for metric in history] == pytest.approx(table[name].tolist())
    assert found.data.tags["model_digest"] == digest
    assert found.data.tags["prior"] == "gaussian"
    assert found.data.tags["git_dirty"] == "false"
    assert found.data.params["train_aae.epochs"] == str(EPOCHS)
    images = client.list_artifacts(found.info.run_id, "images")
    steps = {item.path.split("+")[2] for item in images if item.path.endswith(".png")}
    assert steps == {"0", "1", "2", "3"}


def test_the_evaluation_is_in_the_run_of_the_training(project):
    metrics = json.loads((project / "reports" / "metrics" / "latent.json").read_text())
    client = mlflow.MlflowClient(store(project))
    for name in ("ae", "aae"):
        (found,) = runs(project, f"train_{name}")
        prefix = "gaussian/" if name == "ae" else ""
        for key in CONTRACT - {"floor", "p_value"}:
            assert found.data.metrics[f"{prefix}{key}"] == metrics[name][key]
        assert found.data.metrics[f"{prefix}p_value/all"] == metrics[name]["p_value"]["all"]
        assert found.data.tags[f"{prefix}distribution"] == "Normal(loc=0.0, scale=5.0)"
        figures = client.list_artifacts(found.info.run_id, f"{prefix}figures")
        assert f"{prefix}figures/latent_histogram.png" in {item.path for item in figures}
        uri = f"{found.info.artifact_uri}/{prefix}latent_histogram.csv"
        table = pd.read_csv(io.StringIO(mlflow.artifacts.load_text(uri)))
        assert table["dimension"].unique().tolist() == [1, 2]


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({}, []),
        ({"prior": "gamma"}, ["train_aae", "eval_latent", "report"]),
        ({"priors.gaussian.scale": 4.0}, ["train_aae", "eval_latent", "report"]),
        ({"priors.gamma.rate": 4.0}, []),
        ({"tracking.histogram_every": 5}, []),
        ({"eval_latent.draws": 39}, ["eval_latent", "report"]),
        ({"train_ae.epochs": 9}, ["train_ae", "report"]),
        ({"augment.regularisation": 0.5}, ["train_aae", "report"]),
        ({"augment.shift": 0.5}, ["train_ae", "train_aae", "report"]),
        ({"network.discriminator_hidden": [9]}, ["train_aae", "report"]),
        ({"seed": 1}, STAGES),
    ],
)
def test_a_change_reruns_what_it_concerns(changed, changes, stages):
    # The status does not list stages whose change is known only after earlier stages have run.
    assert changed(changes) == stages


def test_another_prior_is_learnt_without_training_the_autoencoder_again(project, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    result = run(["dvc", "exp", "run", "--set-param", "prior=gamma"], copy)
    for stage, skipped in zip(STAGES, (True, True, False, False, False), strict=True):
        assert (f"Stage '{stage}' didn't change, skipping" in result.stdout) == skipped
        assert (f"Running stage '{stage}'" in result.stdout) != skipped
    assert len(runs(copy, "train_ae")) == 1
    newest = runs(copy, "train_aae")[0]
    assert newest.data.tags["prior"] == "gamma"
    name = newest.data.tags["dvc_experiment"]
    recipe = run(["make", "--dry-run", "experiments"], ROOT).stdout.splitlines()
    (line,) = (line for line in recipe if "dvc exp show" in line)
    command = shlex.split(line.removeprefix(".venv/bin/"))
    table = run([*command, "--csv"], copy).stdout
    header, *rows = csv.reader(io.StringIO(table))
    assert set(header) >= {"prior", "seed", *(HEADLINES.keys() - OF_CATEGORIES)}
    assert len(header) <= 14, "columns worth reading"
    shown = next(dict(zip(header, row, strict=True)) for row in rows if name in row)
    assert shown["prior"] == "gamma"
    assert float(shown["match_ratio"]) == newest.data.metrics["match_ratio"]
    # The comparison has the figures of each, and one plot of losses with the lines of both.
    run(["dvc", "plots", "diff", "HEAD", "--out", str(tmp_path / "plots")], copy)
    images = {path.name for path in (tmp_path / "plots" / "static").iterdir()}
    for revision in ("HEAD", "workspace"):
        assert f"{revision}_reports_figures_codes_by_class.png" in images
    page = (tmp_path / "plots" / "index.html").read_text()
    assert page.count('"rev": "HEAD"') >= EPOCHS
    assert page.count('"rev": "workspace"') >= EPOCHS


@pytest.mark.slow
def test_queued_experiments_in_a_clone_without_a_store_all_succeed(project, tmp_path):
    copy = tmp_path / "clone"
    run(["git", "clone", "--quiet", str(project), str(copy)], tmp_path)
    sweep = ["-S", "prior=gaussian,gamma,uniform", "-S", "seed=0,1"]
    run(["dvc", "exp", "run", "--queue", *sweep], copy)
    start_queue(copy, "-j", "2", OMP_NUM_THREADS=None)
    status = wait_for_queue(copy)
    assert status.count("Success") == 6, status
    assert not list((copy / ".dvc" / "tmp" / "exps").glob("*/tmp*")), "copies are deleted"

    found = {(r.data.tags["prior"], r.data.tags["seed"]): r for r in runs(copy, "train_aae")}
    assert set(found) == set(itertools.product(("gaussian", "gamma", "uniform"), "01"))
    assert {tracked.data.tags["threads"] for tracked in found.values()} == {"1"}
    listed = run(["dvc", "exp", "list", "--name-only"], copy).stdout.split()
    client = mlflow.MlflowClient()
    for tracked in found.values():
        assert tracked.info.status == "FINISHED"
        assert tracked.data.tags["dvc_experiment"] in listed
        assert tracked.data.metrics["match_ratio"] > 0
        uri = tracked.info.artifact_uri
        assert uri.startswith((copy / "mlartifacts").as_uri())
        assert mlflow.artifacts.load_text(f"{uri}/latent_histogram.csv")
        assert client.list_artifacts(tracked.info.run_id, "figures")
        (logged,) = tracked.outputs.model_outputs
        assert mlflow.pyfunc.load_model(f"models:/{logged.model_id}")


RESTORE = "; `git restore params.yaml` brings back the committed parameters\n"


@pytest.mark.parametrize(
    ("overrides", "stage", "message"),
    [
        (["network.hidden.0=0"], "train_ae", "network.hidden.0: 0 is wrong: Input should be gr"),
        pytest.param(
            ["priors.gaussian.scale=-1"],
            "train_aae",
            "priors.gaussian.scale: -1 does not satisfy GreaterThan(lower_bou",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["prior=gaussian_mixture", "latent_dim=3"],
            "train_ae",
            "priors.gaussian_mixture.distribution: GaussianRing has 2 dimensions and latent_dim is",
            marks=pytest.mark.slow,
        ),
        (
            ["data.source=mnist", "data.root=no/where"],
            "prepare_data",
            "data.source: mnist is not below data.root and could not be downloaded (RuntimeError: ",
        ),
        pytest.param(
            ["precision=tf32"],
            "train_ae",
            "precision: 'tf32' needs device: cuda and a GPU that supports it; use 'float32', ",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["device=cuda"],
            "train_ae",
            "device: 'cuda' needs a GPU and there is none; use 'cpu' or 'auto'",
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
            ],
        ),
    ],
)
def test_a_refused_experiment_loses_nothing(project, overrides, stage, message):
    arguments = [word for override in overrides for word in ("-S", override)]
    no_network = {"http_proxy": NOWHERE, "https_proxy": NOWHERE, "no_proxy": ""}
    before = outputs(project)
    result = run(["dvc", "exp", "run", *arguments], project, check=False, **no_network)
    assert result.returncode != 0
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.splitlines(keepends=True)[0].endswith(RESTORE)
    assert f"Running stage '{stage}'" in result.stdout
    assert outputs(project) == before
    assert run(["git", "status", "--porcelain"], project).stdout == " M params.yaml\n"
    run(["git", "restore", "params.yaml"], project)
    assert json.loads(run(["dvc", "status", "--json"], project).stdout) == {}


def test_a_prior_that_is_not_there_is_named(project):
    result = run(["dvc", "exp", "run", "-S", "prior=gama"], project, check=False)
    assert result.returncode != 0
    assert "'priors.gama'" in result.stderr
    run(["git", "restore", "params.yaml"], project)


@pytest.mark.slow
def test_a_refused_experiment_of_the_queue_loses_nothing(project):
    before = outputs(project)
    result = run(["dvc", "exp", "run", "--temp", "-S", "latent_dim=0"], project, check=False)
    assert result.returncode != 0
    assert "error: latent_dim: 0 is wrong" in result.stderr
    assert "git restore" not in result.stderr, "here, params.yaml is as it was"
    assert outputs(project) == before
    assert run(["git", "status", "--porcelain"], project).stdout == ""


@pytest.mark.slow
def test_an_experiment_whose_results_dvc_would_lose_is_refused(project, tmp_path):
    """DVC cannot fetch them from a copy of a shallow clone, and ends without an error."""
    shallow = tmp_path / "shallow"
    run(["git", "clone", "--quiet", "--depth=1", project.as_uri(), str(shallow)], tmp_path)
    command = ["dvc", "exp", "run", "--temp", "--name", "kept", "--set-param", "seed=1"]
    result = run(command, shallow, check=False)
    assert result.returncode != 0
    line = "error: the history is incomplete: run `git fetch --unshallow` first\n"
    assert result.stderr.startswith(line)
    run(["git", "fetch", "--quiet", "--unshallow"], shallow)
    run(command, shallow)
    assert run(["dvc", "exp", "list", "--name-only"], shallow).stdout == "kept\n"


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        pytest.param(b"\xff\xfe", marks=pytest.mark.slow),
        pytest.param(b"epoch,reconstruction_loss\n", marks=pytest.mark.slow),
        pytest.param(b"epoch\n1,2,3\n1,2,3,4\n", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_history_is_named(project, damage):
    history = project / "reports" / "history" / "aae.csv"
    whole = history.read_bytes()
    history.write_bytes(damage)
    before = (project / "reports/metrics/latent.json").read_bytes()
    result = run(["python", "stages/eval_latent.py"], project, check=False)
    history.write_bytes(whole)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: reports/history/aae.csv: ")
    assert line.endswith("run `dvc repro --force train_aae`")
    assert (project / "reports/metrics/latent.json").read_bytes() == before


@pytest.mark.slow
def test_every_stage_explains_itself(project):
    for stage in STAGES:
        answer = run(["python", f"stages/{stage}.py", "--help"], project).stdout
        assert "params.yaml" in answer
        assert "dvc exp run" in answer


def test_plots_and_metrics_can_be_shown(project, tmp_path):
    header, *rows = run(["dvc", "metrics", "show"], project).stdout.splitlines()
    assert set(header.split()) == {"Path", *(HEADLINES.keys() - OF_CATEGORIES)}
    assert len(rows) == 1
    assert len(header) <= 150, "fits on a screen"
    run(["dvc", "plots", "show", "--out", str(tmp_path / "plots")], project)
    page = (tmp_path / "plots" / "index.html").read_text()
    for title in ("Reconstruction loss", "Discriminator and generator loss", "codes_by_class.png"):
        assert title in page


@pytest.mark.long
@pytest.mark.parametrize(
    ("latent_dim", "prior"),
    [(1, "student_t"), (2, "gaussian_mixture"), (8, "uniform"), (16, "beta")],
)
def test_other_priors_and_latent_sizes_go_through_the_pipeline(
    project, tmp_path, latent_dim, prior
):
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    write_params(copy / "params.yaml", SMALL | {"latent_dim": latent_dim, "prior": prior})
    run(["dvc", "repro"], copy)
    page = (copy / "reports" / "report.html").read_text()
    assert f"in {latent_dim} dimension" in page


@pytest.mark.slow
def test_a_pipeline_whose_server_goes_away_loses_nothing(project, tmp_path, started):
    copy, epochs = tmp_path / "copy", 20
    shutil.copytree(project, copy)
    write_params(copy / "params.yaml", SMALL | {"seed": 1, "train_aae.epochs": epochs})
    server = {"MLFLOW_TRACKING_URI": started.uri, "MLFLOW_EXPERIMENT_NAME": "outage"}
    started.start()
    pipeline = start(["dvc", "repro"], copy, **server)
    wait_for_line(pipeline.stdout, f"train_aae 2/{epochs}")
    started.kill()
    errors = pipeline.stderr.read()
    assert pipeline.wait() == 0
    assert errors.count("; the stage continues") == 3, "in the training and both evaluations"
    assert "aae sync" in errors
    started.start()
    result = run(["aae", "sync"], copy, **server)
    assert result.stdout.endswith("3 folders of mlflow-spool/ uploaded\n")

    mlflow.set_tracking_uri(started.uri)
    table = pd.read_csv(copy / "reports" / "history" / "aae.csv")
    metrics = json.loads((copy / "reports" / "metrics" / "latent.json").read_text())
    for stage, name in (("train_ae", "gaussian/match_ratio"), ("train_aae", "match_ratio")):
        chosen = {"experiment_names": ["outage"], "filter_string": f"tags.stage = '{stage}'"}
        (found,) = mlflow.search_runs(**chosen, output_format="list")
        assert found.info.status == "FINISHED"
        assert found.data.metrics[name] == metrics[stage[6:]]["match_ratio"]
        assert len(found.outputs.model_outputs) == 1
    history = mlflow.MlflowClient().get_metric_history(found.info.run_id, "generator_loss")
    assert [metric.step for metric in history] == table["epoch"].tolist()
    assert [metric.value for metric in history] == table["generator_loss"].tolist()


def test_committed_results_are_those_of_the_committed_code_and_parameters():
    """dvc.lock, files and params.yaml agree, so the numbers in git are those of the code."""
    lock = YAML(typ="safe").load(ROOT / "dvc.lock")
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    tracked = set(run(["git", "ls-files"], ROOT).stdout.splitlines())
    assert set(lock["stages"]) == set(STAGES)
    for stage in lock["stages"].values():
        for item in stage.get("deps", []) + stage.get("outs", []):
            if item["path"] in tracked:
                content = (ROOT / item["path"]).read_bytes()
                assert hashlib.md5(content).hexdigest() == item["md5"], item["path"]
        for key, value in stage["params"]["params.yaml"].items():
            current = params
            for part in key.split("."):
                current = current[part]
            assert current == value, key
