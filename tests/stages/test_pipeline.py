"""The real pipeline with small networks, in a git repository of its own."""

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
import pandas as pd
import pytest
import torch
from support import NOWHERE, ROOT, made_once, run, start, wait_for_line, write_params
from ruamel.yaml import YAML
from safetensors import safe_open
from test_evaluation import CONTRACT
from test_page import FIGURES

from aae.evaluation.evaluation import SUMMARY
from aae.files import file_digest

EPOCHS = 3
SMALL = {
    "network.hidden": [64],
    "network.discriminator_hidden": [64],
    "train_ae.epochs": EPOCHS,
    "train_aae.epochs": EPOCHS,
    "eval_latent.draws": 19,
    "eval_latent.references": 2,
    "eval_latent.subset": 100,
    "eval_latent.judge_steps": 20,
    "tracking.histogram_every": 2,
}
STAGES = ["check_params", "prepare_data", "train_ae", "train_aae", "eval_latent", "report"]
LOSSES = ["reconstruction_loss", "discriminator_loss", "generator_loss"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The project with small networks after its first `dvc repro`."""
    return made_once(tmp_path_factory, "made", SMALL)


@pytest.fixture(scope="module")
def project(made, tmp_path_factory) -> Path:
    """A copy of it, in which a test may change parameters and run experiments."""
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("copy") / "project"))


@pytest.fixture
def changed(project):
    """Return a function that changes parameters and says which stages would run."""
    kept = (project / "params.yaml").read_text()

    def stages_that_run(changes: dict) -> list[str]:
        write_params(project / "params.yaml", SMALL | changes)
        status = json.loads(run(["dvc", "status", "--json"], project).stdout)
        return [stage for stage in STAGES if stage in status]

    yield stages_that_run
    (project / "params.yaml").write_text(kept)


def store(project: Path) -> str:
    return f"sqlite:///{project / 'mlflow.db'}"


def runs(project: Path, stage: str) -> list:
    mlflow.set_tracking_uri(store(project))
    mlflow.set_experiment("aae")
    return mlflow.search_runs(filter_string=f"tags.stage = '{stage}'", output_format="list")


def wait_for_queue(project: Path) -> str:
    """Wait until no experiment is queued or runs, and return DVC's list of them."""
    while True:
        status = run(["dvc", "queue", "status"], project).stdout
        running = [line.split()[1] for line in status.splitlines() if line.endswith("Running")]
        if running:  # following its log ends when it does
            run(["dvc", "queue", "logs", "--follow", running[0]], project, check=False)
        elif "Queued" not in status:
            return status


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
    assert set(pairwise(STAGES[1:])) <= edges


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
    assert list(metrics) == ["ae", "aae", "real"]
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
        "image_shape": [1, 28, 28], "latent_dim": 2, "hidden": [64], "discriminator_hidden": [64],
        "prior": {"name": "gaussian", "distribution": "Normal", "loc": 0.0, "scale": 5.0},
    }  # fmt: skip


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
        ({"network.discriminator_hidden": [9]}, ["train_aae", "report"]),
        ({"seed": 1}, STAGES[1:]),
    ],
)
def test_a_change_reruns_what_it_concerns(changed, changes, stages):
    # Stages that only find out when the ones before them have run are not in the status.
    # Every change of a parameter is checked.
    assert changed(changes) == (["check_params"] if changes else []) + stages


def test_another_prior_is_learnt_without_training_the_autoencoder_again(project, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    result = run(["dvc", "exp", "run", "--set-param", "prior=gamma"], copy)
    for stage, skipped in zip(STAGES, (False, True, True, False, False, False), strict=True):
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
    assert set(header) >= {
        "prior", "seed", "match_ratio", "ks_statistic", "reconstruction_mse"
    }  # fmt: skip
    assert len(header) <= 12, "columns worth reading"
    shown = next(dict(zip(header, row, strict=True)) for row in rows if name in row)
    assert shown["prior"] == "gamma"
    assert float(shown["match_ratio"]) == newest.data.metrics["match_ratio"]
    # Both side by side: figures of each, and one plot of losses with the lines of both.
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
    run(["dvc", "queue", "start", "-j", "2"], copy, OMP_NUM_THREADS=None)
    status = wait_for_queue(copy)
    assert status.count("Success") == 6, status
    assert not list((copy / ".dvc" / "tmp" / "exps").glob("*/tmp*")), "copies are deleted"

    command = ["python", "-c", "import torch; print(torch.get_num_threads())"]
    alone = int(run(command, copy, OMP_NUM_THREADS=None).stdout)
    found = {(r.data.tags["prior"], r.data.tags["seed"]): r for r in runs(copy, "train_aae")}
    assert set(found) == set(itertools.product(("gaussian", "gamma", "uniform"), "01"))
    threads = [
        int(tracked.data.tags["threads"])
        for tracked in sorted(found.values(), key=lambda tracked: tracked.info.start_time)
    ]
    # Two at a time; the last may have all cores, when there is nothing left for the other worker.
    assert set(threads[:2]) == {max(1, alone // 2)}
    assert set(threads) <= {max(1, alone // 2), alone}
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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["prior=gama"], "prior: 'gama' is not in priors; did you mean 'gamma'? (choices: gau"),
        pytest.param(
            ["priors.gamma.rate=-1"],
            "priors.gamma.rate: -1 does not satisfy GreaterThan(lower_bou",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["latent_dim=0"],
            "latent_dim: 0 is wrong: Input should be greater than or equal to 1\n",
            marks=pytest.mark.slow,
        ),
        (
            ["prior=gaussian_mixture", "latent_dim=3"],
            "priors.gaussian_mixture.distribution: GaussianRing has 2 dimensions and latent_dim is",
        ),
        (
            ["data.source=mnist", "data.root=no/where"],
            "data.source: mnist is not below data.root and could not be downloaded (RuntimeError: ",
        ),
        (
            ["launcher=torchrun --nproc-per-node x"],
            "launcher: 'torchrun --nproc-per-node x' is refused by torchrun: Unsupported nproc_per",
        ),
        pytest.param(
            ["precision=tf32"],
            "precision: 'tf32' needs a GPU that has it, and device: cuda; use 'float32', 'bf16",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["device=cuda"],
            "device: 'cuda' needs a GPU and there is none; use 'cpu' or 'auto'\n",
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
            ],
        ),
    ],
)
def test_a_refused_experiment_leaves_the_workspace_as_it_was(project, overrides, message):
    arguments = [word for override in overrides for word in ("-S", override)]
    no_network = {"http_proxy": NOWHERE, "https_proxy": NOWHERE, "no_proxy": ""}
    result = run(["dvc", "exp", "run", *arguments], project, check=False, **no_network)
    assert result.returncode != 0
    assert result.stderr.startswith(f"error: {message}")
    assert [line for line in result.stdout.splitlines() if "Running stage" in line] == [
        "Running stage 'check_params':"
    ]
    assert run(["git", "status", "--porcelain"], project).stdout == ""
    assert json.loads(run(["dvc", "status", "--json"], project).stdout) == {}


@pytest.mark.slow
def test_edits_by_hand_outlive_a_refused_experiment(project, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    weibull = {"distribution": "Weibull", "scale": 1.0, "concentration": 1.5}
    mine = SMALL | {"train_aae.epochs": 7, "priors.mine": weibull}
    write_params(copy / "params.yaml", mine)
    refused = ("latent_dim=0", "+data.sorce=mnist", "priors.mine.scale=-1")
    options = [f"--set-param={change}" for change in refused]
    result = run(["dvc", "exp", "run", *options], copy, check=False)
    assert (
        "params.yaml: latent_dim=2 again, data.sorce removed, priors.mine.scale left as it is\n"
    ) in result.stdout
    found = parameters(copy / "params.yaml")
    assert found.pop("priors")["mine"] == weibull | {"scale": -1}
    expected = parameters(write_params(tmp_path / "mine", mine))
    assert found == {name: value for name, value in expected.items() if name != "priors"}
    # A comment too.
    run(["git", "checkout", "params.yaml"], copy)
    with (copy / "params.yaml").open("a", encoding="utf-8") as file:
        file.write("# mine\n")
    run(["dvc", "exp", "run", "--set-param=prior=gama"], copy, check=False)
    assert "# mine" in (copy / "params.yaml").read_text()


@pytest.mark.slow
def test_what_an_experiment_has_changed_outlives_a_refused_one(project, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    run(["dvc", "exp", "run", "--set-param=prior=gamma", "check_params"], copy)
    run(["dvc", "exp", "run", "--set-param=prior=gama"], copy, check=False)
    assert parameters(copy / "params.yaml")["prior"] == "gamma"
    assert "check_params" not in json.loads(run(["dvc", "status", "--json"], copy).stdout)


def parameters(path: Path) -> dict:
    return YAML(typ="safe").load(path)


def test_every_stage_explains_itself(project):
    asked = [start(["python", f"stages/{stage}.py", "--help"], project) for stage in STAGES]
    for process in asked:
        answer, _ = process.communicate()
        assert process.returncode == 0
        assert "params.yaml" in answer
        assert "dvc exp run" in answer


def test_plots_and_metrics_can_be_shown(project, tmp_path):
    header, *rows = run(["dvc", "metrics", "show"], project).stdout.splitlines()
    assert set(header.split()) == {"Path", *SUMMARY}
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
    assert errors.count("going on") == 2, "once in the training, once for the autoencoder's metrics"
    assert "python -m aae.tracking.sync" in errors
    started.start()
    result = run(["python", "-m", "aae.tracking.sync"], copy, **server)
    assert result.stdout.endswith("2 runs uploaded\n")

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
    """dvc.lock, files and params.yaml agree, so that the numbers in git are what the code makes."""
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
