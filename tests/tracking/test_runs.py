import json
import os
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
import torch
from projects import commit, end, run, start
from servers import free_port, wait_for_line
from support import make_digits, training_run

import aae
from aae.errors import TrackingError
from aae.files import file_digest
from aae.models import Architecture, Model, save_model
from aae.models.categories import Categories
from aae.tracking.run import evaluation_run
from aae.tracking.spool import load_spooled, remove_spooled, save_spooled, sync
from aae.tracking.store import End, Image, RunInfo, SavedModel

RUN = RunInfo("nowhere, experiment aae", "first", {}, 0)
ARCHITECTURE = Architecture(
    image_shape=(1, 4, 4), latent_dim=3, hidden=(8,),
    prior={"name": "gamma", "distribution": "Gamma", "concentration": 2.0, "rate": 1.0},
)  # fmt: skip


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    (root / ".dvc").mkdir()
    (root / ".gitignore").write_text("/mlflow.db*\n/mlartifacts\n/.dvc\n")
    run(["git", "init", "--quiet"], root)
    commit(root, "empty")
    return root


@pytest.fixture(autouse=True)
def _in_repository(repository, monkeypatch):
    monkeypatch.chdir(repository)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME", "CI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def processes():
    """Processes that the test starts, which end with it."""
    started: list = []
    yield started
    for process in started:
        end(process)


def newest() -> mlflow.entities.Run:
    return mlflow.search_runs(max_results=1, output_format="list")[0]


def test_a_training_run_holds_parameters_losses_and_tags(repository, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "brave-gamma")
    monkeypatch.setenv("CI", "true")
    with training_run("train_aae", "gamma", 3, {"seed": 3, "data": {"source": "mnist"}}) as tracked:
        for epoch in (1, 2):
            tracked.log_epoch({"epoch": epoch, "generator_loss": 0.5 / epoch})
        tracked.log_dataset("mnist", "d" * 64)
    found = newest()
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "train_aae gamma seed 3"
    assert found.data.params == {"seed": "3", "data.source": "mnist"}
    expected = {"stage": "train_aae", "prior": "gamma", "seed": "3"}
    expected |= {"dvc_experiment": "brave-gamma", "mlflow.source.name": "stages/train_aae.py"}
    expected["ci"] = "true"
    assert expected.items() <= found.data.tags.items()
    assert found.data.tags["git_dirty"] == "false"
    assert len(found.data.tags["git_commit"]) == 40
    assert found.data.tags["data_digest"] == "d" * 64
    (dataset,) = found.inputs.dataset_inputs
    assert dataset.dataset.name == "mnist"
    assert dataset.dataset.digest == "d" * 32
    history = mlflow.MlflowClient().get_metric_history(found.info.run_id, "generator_loss")
    assert [(m.step, m.value) for m in history] == [(1, 0.5), (2, 0.25)]
    assert (repository / "mlflow.db").is_file()
    assert found.info.artifact_uri.startswith((repository / "mlartifacts").as_uri())


def test_a_store_named_in_a_copy_of_the_repository_is_in_the_repository(tmp_path, monkeypatch):
    queued = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1234"
    queued.mkdir(parents=True)
    monkeypatch.chdir(queued)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine.db")
    with training_run("train_ae", "none", 0, {}) as tracked:
        tracked.log_image(np.zeros((8, 9, 3), np.uint8), "latent_histogram", 0)
    assert list(queued.iterdir()) == []
    assert (tmp_path / "mine.db").exists()
    found = newest()
    assert found.info.artifact_uri.startswith(tmp_path.as_uri())
    assert mlflow.MlflowClient().list_artifacts(found.info.run_id, "images")


def test_passwords_in_parameters_and_tags_are_not_recorded(repository, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "https://me:hunter2@host/name")
    with training_run("train_ae", "none", 0, {"data": {"root": "https://me:hunter2@host/images"}}):
        pass
    found = newest()
    assert "ci" not in found.data.tags
    assert found.data.params == {"data.root": "https://host/images"}
    assert found.data.tags["dvc_experiment"] == "https://host/name"
    assert b"hunter2" not in (repository / "mlflow.db").read_bytes()


def test_what_stages_write_does_not_make_the_tree_dirty_and_all_else_does(repository):
    for path, dirty in ((repository / "dvc.lock", "false"), (repository / "other", "true")):
        path.write_text("changed")
        with training_run("train_ae", "none", 0, {}):
            pass
        assert newest().data.tags["git_dirty"] == dirty
        path.unlink()


def test_an_error_in_a_training_fails_its_run():
    with pytest.raises(RuntimeError), training_run("train_ae", "none", 0, {}):
        raise RuntimeError
    assert newest().info.status == "FAILED"


def evaluate(run, folder: Path, value: float, prefix: str = "") -> None:
    """Log an evaluation with three bins."""
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "figures" / "losses.png").write_bytes(b"png")
    bins = pd.DataFrame({"low": [0, 1, 2], "codes": [value] * 3})
    metrics = {"match_ratio": value, "floor": {"sliced_wasserstein": {"mean": 0.1}}}
    tags = {"distribution": f"Gamma(rate={value})"}
    run.log_evaluation(metrics, bins, folder / "figures", prefix, tags)


def test_the_evaluation_lands_in_the_run_that_trained_the_model(tmp_path):
    paths = [tmp_path / f"{seed}.safetensors" for seed in (0, 1)]
    run_ids = []
    for seed, path in enumerate(paths):
        save_model(Model(ARCHITECTURE, seed), path)
        with training_run("train_aae", "gamma", 0, {}) as tracked:
            tracked.log_model(path, ARCHITECTURE)
        run_ids.append(newest().info.run_id)
    ended = mlflow.get_run(run_ids[0]).info.end_time
    for value in (1.0, 1.5):  # the second replaces the first
        with evaluation_run(paths[0], "train_aae", "gamma", 0) as tracked:
            evaluate(tracked, tmp_path, value)
    first, second = (mlflow.get_run(run_id) for run_id in run_ids)
    assert (first.info.status, first.info.end_time) == ("FINISHED", ended)
    assert first.data.metrics == {"match_ratio": 1.5, "floor/sliced_wasserstein.mean": 0.1}
    table = mlflow.artifacts.load_text(f"{first.info.artifact_uri}/latent_histogram.csv")
    assert table == "low,codes\n0,1.5\n1,1.5\n2,1.5\n"
    names = [item.path for item in mlflow.MlflowClient().list_artifacts(run_ids[0], "figures")]
    assert names == ["figures/losses.png"]
    assert second.data.metrics == {}


def test_an_autoencoder_keeps_an_evaluation_for_each_prior(tmp_path):
    path = tmp_path / "ae.safetensors"
    save_model(Model(ARCHITECTURE, seed=5), path)
    with training_run("train_ae", "none", 0, {}) as tracked:
        tracked.log_model(path, ARCHITECTURE)
    for prior, value in (("gamma", 3.0), ("gaussian", 4.0)):
        with evaluation_run(path, "train_ae", "none", 0) as tracked:
            evaluate(tracked, tmp_path, value, f"{prior}/")
    found = newest()
    assert found.data.metrics["gamma/match_ratio"] == 3.0
    assert found.data.metrics["gaussian/match_ratio"] == 4.0
    assert found.data.tags["gamma/distribution"] == "Gamma(rate=3.0)"
    for prior in ("gamma", "gaussian"):
        mlflow.artifacts.load_text(f"{found.info.artifact_uri}/{prior}/latent_histogram.csv")


def test_a_model_that_no_run_trained_gets_a_run_that_says_so(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(Model(ARCHITECTURE, seed=7), path)
    for value in (1.0, 2.0):
        with evaluation_run(path, "train_aae", "gamma", 0) as tracked:
            evaluate(tracked, tmp_path, value)
    found = mlflow.search_runs(
        filter_string=f"tags.model_digest = '{file_digest(path)}'", output_format="list"
    )
    assert len(found) == 1
    assert found[0].info.run_name == "train_aae gamma seed 0 (trained elsewhere)"
    assert found[0].info.status == "FINISHED"
    expected = {"trained_elsewhere": "true", "stage": "train_aae", "prior": "gamma"}
    assert expected.items() <= found[0].data.tags.items()
    assert found[0].data.metrics["match_ratio"] == 2.0


def test_images_are_a_series_over_epochs():
    with training_run("train_aae", "gamma", 0, {}) as tracked:
        for epoch in (1, 10):
            tracked.log_image(np.full((8, 9, 3), epoch, np.uint8), "latent_histogram", epoch)
    artifacts = mlflow.MlflowClient().list_artifacts(newest().info.run_id, "images")
    names = sorted(item.path for item in artifacts if item.path.endswith(".png"))
    assert [name.split("+")[:3] for name in names] == [
        ["images/latent_histogram", "step", "1"], ["images/latent_histogram", "step", "10"]
    ]  # fmt: skip


def log(architecture: Architecture, folder: Path) -> tuple[Model, str]:
    """Log a model; return it, and the address under which MLflow has it."""
    path = folder / "model.safetensors"
    model = Model(architecture, seed=0)
    save_model(model, path)
    with training_run("train_aae", "gamma", 0, {}) as tracked:
        tracked.log_model(path, architecture)
    (found,) = newest().outputs.model_outputs
    return model, f"models:/{found.model_id}"


@pytest.fixture
def logged(tmp_path) -> tuple[Model, str]:
    """A model with a prior, and the address under which MLflow has it."""
    return log(ARCHITECTURE, tmp_path)


@pytest.fixture
def serve(tmp_path, processes):
    """Serve a logged model, and return the address of the server.

    It runs outside of the project, because the model must be logged with everything that it needs.
    """

    def address(uri: str) -> str:
        port = free_port()
        command = ["mlflow", "models", "serve", "--model-uri", uri, "--env-manager", "local"]
        store = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "PYTHONPATH": None}
        server = start([*command, "--port", str(port)], tmp_path, **store)
        processes.append(server)
        wait_for_line(server.stderr, "Uvicorn running")
        return f"http://127.0.0.1:{port}"

    return address


def post(address: str, body: dict) -> requests.Response:
    return requests.post(f"{address}/invocations", json=body, timeout=60)


def test_a_logged_model_serves_all_its_tasks(logged, serve):
    model, uri = logged
    info = mlflow.models.get_model_info(uri)
    assert info.signature.outputs.to_dict()[0]["tensor-spec"]["shape"] == (-1, 1, 4, 4)
    defaults = {param.name: param.default for param in info.signature.params.params}
    assert defaults == {"task": "decode", "n": 16, "seed": 0, "label": ""}
    assert set(info.metadata["tasks"]) == {"decode", "encode", "reconstruct", "score", "sample"}
    assert info.saved_input_example_info is not None
    requirements = Path(mlflow.pyfunc.get_model_dependencies(uri)).read_text()
    assert "torch==2.13.0" in requirements.splitlines()
    assert "+" not in requirements, "a local build is in no package index"

    address = serve(uri)

    def served(inputs: list, **params: object) -> object:
        answer = post(address, {"inputs": inputs} | ({"params": params} if params else {}))
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"]

    trained = aae.load(uri)
    codes = [[0.0, 1.0, 2.0], [0.5, 0.5, 0.5]]
    images = make_digits(2) / 255
    for found, expected in (
        (served(codes), model.decode(torch.tensor(codes))),
        (served(codes, task="decode"), model.decode(torch.tensor(codes))),
        (served([[0, 1, 2]]), model.decode(torch.tensor([[0.0, 1.0, 2.0]]))),
        (served(images.tolist(), task="encode"), model.encode(images)),
        (served(images[:, 0].tolist(), task="encode"), model.encode(images)),
        (served(images.tolist(), task="reconstruct"), trained.reconstruct(images)),
        (served([], task="sample", n=3, seed=7), trained.sample(3, seed=7)),
        (served([], task="sample"), trained.sample(16)),
    ):
        torch.testing.assert_close(torch.tensor(found), expected, atol=1e-5, rtol=1e-5)
    scores = served(images.tolist(), task="score")
    for name, values in trained.score(images)._asdict().items():
        np.testing.assert_allclose(scores[name], values, atol=1e-5)
    table = {"columns": ["z1", "z2", "z3"], "data": codes}
    answer = post(address, {"dataframe_split": table}).json()["predictions"]
    torch.testing.assert_close(torch.tensor(answer), model.decode(torch.tensor(codes)))

    for body, message in (
        ({"inputs": codes, "params": {"task": "encode"}}, "images of shape (2, 3); (N, 1, 4, 4)"),
        ({"inputs": images.tolist()}, "codes of shape (2, 1, 4, 4); (N, 3) is needed"),
        ({"inputs": codes, "params": {"task": "paint"}}, "task: 'paint' is not a task"),
        ({"inputs": [[[[255] * 4] * 4]], "params": {"task": "score"}}, "floats from 255 to 255"),
        ({"inputs": [[None, 0.0, 0.0]]}, "codes hold NaN or infinite values"),
        ({"inputs": codes, "params": {"label": "cat"}}, "the model's decoder takes only codes"),
        ({"inputs": images.tolist(), "params": {"task": "classify"}}, "does not find the class"),
    ):
        answer = post(address, body)
        assert answer.status_code == 400
        assert message in answer.text
    for request in Path(mlflow.artifacts.download_artifacts(uri)).rglob("data/**/*.json"):
        assert post(address, json.loads(request.read_text())).status_code == 200


@pytest.mark.slow
def test_a_logged_model_serves_its_classes(serve, tmp_path):
    categories = {"use": "semi-supervised", "count": 3, "names": ["cat", "dog", "03"]}
    architecture = ARCHITECTURE.model_copy(update={"categories": Categories(**categories)})
    _, uri = log(architecture, tmp_path)
    metadata = mlflow.models.get_model_info(uri).metadata
    assert metadata["class_names"] == ["cat", "dog", "03"]
    assert "classify" in metadata["tasks"]
    address, trained = serve(uri), aae.load(uri)
    codes, images = [[0.0, 1.0, 2.0], [0.5, 0.5, 0.5]], make_digits(2) / 255

    def served(inputs: list, **params: object) -> object:
        answer = post(address, {"inputs": inputs, "params": params})
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"]

    found = served(images.tolist(), task="classify")
    assert list(found) == ["cat", "dog", "03"]
    np.testing.assert_allclose(
        np.transpose(list(found.values())), trained.classify(images), atol=1e-5
    )
    code = np.array(codes)
    for found, expected in (
        (served(codes, label="dog"), trained.decode(code, "dog")),
        (served(codes, label="03"), trained.decode(code, 2)),
        (served(images.tolist(), task="reconstruct"), trained.reconstruct(images)),
        (served(images.tolist(), task="reconstruct", label="dog"), trained.reconstruct(images, 1)),
        (served([], task="sample", n=3, label="dog"), trained.sample(3, labels=1)),
        (served([], task="sample", n=3), trained.sample(3)),
    ):
        torch.testing.assert_close(torch.tensor(found), expected, atol=1e-5, rtol=1e-5)
    scores = served(images.tolist(), task="score", label="dog")
    expected = trained.score(images, "dog").reconstruction_error
    np.testing.assert_allclose(scores["reconstruction_error"], expected, atol=1e-5)
    columns = ["z1", "z2", "z3", "class"]
    table = {"columns": columns, "data": [[*codes[0], "03"], [*codes[1], "cat"]]}
    for params, labels in (({}, [2, 0]), ({"label": "dog"}, [1, 1])):
        answer = post(address, {"dataframe_split": table, "params": params}).json()["predictions"]
        torch.testing.assert_close(torch.tensor(answer), trained.decode(code, labels))
    for params, message in (
        ({}, "labels are needed, because the decoder takes classes: cat, dog, 03"),
        ({"label": "dgo"}, "labels: 'dgo' is not a category; did you mean 'dog'?"),
    ):
        answer = post(address, {"inputs": codes, "params": params})
        assert answer.status_code == 400
        assert message in answer.text
    for request in Path(mlflow.artifacts.download_artifacts(uri)).rglob("data/**/*.json"):
        assert post(address, json.loads(request.read_text())).status_code == 200


def test_a_logged_model_predicts_from_arrays_and_tables(logged):
    model, uri = logged
    served = mlflow.pyfunc.load_model(uri)
    codes = np.array([[0.0, 1.0, 2.0], [0.5, 0.5, 0.5]], np.float32)
    expected = model.decode(torch.from_numpy(codes))
    for given in (codes, codes.astype(np.float64), pd.DataFrame(codes)):
        np.testing.assert_allclose(served.predict(given), expected, atol=1e-6)
    digits = make_digits(2)
    found = served.predict(digits.numpy(), params={"task": "encode"})
    np.testing.assert_allclose(found, model.encode(digits), atol=1e-5)


def test_a_logged_model_loads_by_every_address(logged):
    model, uri = logged
    found = newest()
    client = mlflow.MlflowClient()
    client.create_registered_model("digits")
    client.create_model_version("digits", uri, found.info.run_id)
    for address in (uri, f"runs:/{found.info.run_id}/decoder", "models:/digits/1"):
        loaded = aae.load(address)
        assert torch.equal(loaded.sample(2), aae.TrainedModel(model).sample(2))
    for wrong in ("models:/m-0", "models:/nothing/1", f"runs:/{'0' * 32}/decoder"):
        with pytest.raises(TrackingError, match=f"{wrong}: MLflow at .* has no such model"):
            aae.load(wrong)


def test_a_model_of_something_else_is_refused(repository):
    class Other(mlflow.pyfunc.PythonModel):
        def predict(self, model_input: list[str]) -> list[str]:
            return model_input

    mlflow.set_tracking_uri(f"sqlite:///{repository / 'mlflow.db'}")
    with mlflow.start_run(experiment_id="0"):  # not that which another test made the active one
        address = mlflow.pyfunc.log_model(
            name="other", python_model=Other(), pip_requirements=[]
        ).model_uri
    with pytest.raises(TrackingError, match="it is not a model that this project has logged"):
        aae.load(address)


def test_a_spooled_run_keeps_its_own_files_in_order(tmp_path):
    folder, weights = tmp_path / "spool" / "run", tmp_path / "weights"
    weights.write_text("weights")
    image = np.full((2, 3, 3), 7, np.uint8)
    for record in (SavedModel(weights, {}), Image(image, "codes", 1, 2), End("FINISHED", 1)):
        save_spooled(folder, RUN, record)
    weights.unlink()
    info, records = load_spooled(folder)
    assert info == RUN
    model, drawn, end = records.values()
    assert model.weights.read_text() == "weights"
    assert (drawn.name, drawn.epoch, drawn.time) == ("codes", 1, 2)
    np.testing.assert_array_equal(drawn.image, image)
    assert end == End("FINISHED", 1)


def test_a_spooled_run_that_cannot_be_read_stops_no_other(repository, capsys):
    image = np.zeros((2, 3, 3), np.uint8)
    damages = (
        ("first", "000001/image.npy", 10),
        ("second", "000001/image.npy", 0),
        ("third", "run.json", 10),
    )
    for name, file, size in damages:
        folder = repository / "mlflow-spool" / name
        save_spooled(folder, replace(RUN, name=name), Image(image, "codes", 1, 2))
        os.truncate(folder / file, size)
    with training_run("train_ae", "none", 5, {}):
        pass
    assert newest().data.tags["seed"] == "5"
    warnings = capsys.readouterr().err
    count, left = sync(repository)
    assert count == 0
    for name, reason in zip(("first", "second", "third"), left, strict=True):
        assert f"warning: mlflow-spool/{name}: it cannot be read: " in warnings
        assert reason.startswith(f"mlflow-spool/{name}: it cannot be read: ")
        assert reason.endswith("delete that folder if you do not need it")
        remove_spooled(repository / "mlflow-spool" / name)


def test_a_spooled_run_that_goes_while_it_is_read_is_told_from_a_damaged_one(tmp_path):
    save_spooled(tmp_path / "run", RUN, End("FINISHED", 1))
    remove_spooled(tmp_path / "run")
    with pytest.raises(FileNotFoundError):
        load_spooled(tmp_path / "run")


def test_the_environment_chooses_store_and_experiment(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    with training_run("train_ae", "none", 0, {}):
        pass
    assert mlflow.get_tracking_uri() == uri
    assert mlflow.get_experiment(newest().info.experiment_id).name == "mine"
