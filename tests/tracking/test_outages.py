"""Tracking with a real MLflow server on loopback that becomes unreachable and comes back."""

import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from projects import run, start
from requests import ReadTimeout
from support import ROOT, training_run
from tracking_example import ARCHITECTURE, EPOCHS, train

from aae.errors import StoreAwayError, TrackingError
from aae.models import Model, save_model
from aae.tracking.run import Run, evaluation_run
from aae.tracking.spool import save_spooled, sync
from aae.tracking.store import RunInfo, Text, connect


def evaluate(weights: Path, then: Callable[[Run], None] = lambda _: None) -> None:
    figures = weights.parent / "figures"
    figures.mkdir(exist_ok=True)
    (figures / "losses.png").write_bytes(b"png")
    with evaluation_run(weights, "train_aae", "gamma", 0) as tracked:
        tracked.log_evaluation({"match_ratio": 1.5}, pd.DataFrame({"low": [0]}), figures)
        then(tracked)


def check_complete() -> None:
    """Check that there is one finished run, with every epoch, image, model and evaluation."""
    (found,) = mlflow.search_runs(output_format="list")
    client, run_id = mlflow.MlflowClient(), found.info.run_id
    assert found.info.status == "FINISHED"
    assert found.info.start_time <= found.info.end_time
    history = client.get_metric_history(run_id, "generator_loss")
    assert [m.step for m in history] == list(range(1, EPOCHS + 1))
    assert [m.value for m in history] == [1 / m.step for m in history]
    images = [i.path for i in client.list_artifacts(run_id, "images") if i.path.endswith(".png")]
    assert sorted(int(path.split("+")[2]) for path in images) == list(range(1, EPOCHS + 1))
    assert found.data.params == {"seed": "0"}
    assert found.data.metrics["match_ratio"] == 1.5
    assert mlflow.artifacts.load_text(f"{found.info.artifact_uri}/figures/losses.png") == "png"
    assert len(found.inputs.dataset_inputs) == 1
    (logged,) = mlflow.search_logged_models(output_format="list")
    assert (logged.source_run_id, logged.status) == (run_id, "READY")
    assert logged.model_id in {output.model_id for output in found.outputs.model_outputs}
    decoder = mlflow.pyfunc.load_model(f"models:/{logged.model_id}")
    assert decoder.predict(np.zeros((1, 3), np.float32)).shape == (1, 1, 4, 4)


@pytest.mark.usefixtures("server")
def test_a_server_gets_runs_and_artifacts(repository, capfd):
    train(repository / "model.safetensors", {})
    evaluate(repository / "model.safetensors")
    check_complete()
    (found,) = mlflow.search_runs(output_format="list")
    assert found.info.artifact_uri.startswith("mlflow-artifacts:")
    assert "warning" not in capfd.readouterr().err
    assert not (repository / "mlflow.db").exists()
    assert not (repository / "mlartifacts").exists()


def test_a_server_that_goes_away_and_comes_back_misses_nothing(server, repository, capfd):
    train(repository / "model.safetensors", {3: server.stop, 5: server.start})
    evaluate(repository / "model.safetensors")
    check_complete()
    assert capfd.readouterr().err.count("warning: ") == 1
    assert not (repository / "mlflow-spool").exists()


@pytest.mark.slow
def test_what_is_uploaded_in_the_background_is_not_lost_either(server, repository, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    train(repository / "model.safetensors", {3: server.stop, 5: server.start})
    evaluate(repository / "model.safetensors")
    check_complete()


def test_what_a_training_at_work_has_spooled_is_left_to_it(server, repository):
    synced: list[tuple[int, list[str]]] = []

    def back() -> None:
        server.start()
        synced.append(sync(repository))

    train(repository / "model.safetensors", {3: server.stop, 5: back})
    ((count, (left,)),) = synced
    assert count == 0
    assert left.endswith(": a running stage records in it and uploads it itself")
    evaluate(repository / "model.safetensors")
    check_complete()
    assert not (repository / "mlflow-spool").exists()


def test_a_disk_that_does_not_take_the_spool_does_not_end_the_training(server, repository, capfd):
    (repository / "mlflow-spool").write_text("in the way")
    train(repository / "model.safetensors", {3: server.stop})
    err = capfd.readouterr().err
    assert "the rest of this run cannot be kept: " in err
    assert "mlflow-spool" in err.splitlines()[-1]


@pytest.mark.slow
def test_a_setting_of_mlflow_that_is_empty_is_none(repository):
    program = "import os, aae.tracking.store; print(os.environ['MLFLOW_HTTP_REQUEST_TIMEOUT'])"
    environment = {"PYTHONPATH": str(ROOT), "MLFLOW_HTTP_REQUEST_TIMEOUT": ""}
    assert int(run(["python", "-c", program], repository, **environment).stdout) > 0


@pytest.mark.parametrize("epoch", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_what_a_server_that_stays_away_misses_is_uploaded_later(server, repository, capfd, epoch):
    if epoch == 1:
        server.stop()
    train(repository / "model.safetensors", {epoch: server.stop})
    evaluate(repository / "model.safetensors")
    err = capfd.readouterr().err
    away = f"warning: MLflow at {server.uri} does not answer (Connection refused); "
    assert err.count(f"{away}the stage continues") == 2, "once in each stage"
    assert err.count(f"{away}the rest of this run is kept in mlflow-spool/") == 2
    assert "aae sync" in err
    (repository / "model.safetensors").unlink()  # the spool has a copy
    file, _ = (repository / "mlflow-spool").glob("*/run.json")
    before = file.stat()
    try:
        raise OSError(28, "No space left on device")
    except OSError:  # an error that the training is handling is none of the server's
        with pytest.raises(StoreAwayError, match="Connection refused"):
            sync(repository)
    assert file.stat().st_ino == before.st_ino, "nothing has been written anew"
    server.start()
    command = ["aae", "sync"]
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME")
    settings = {name: os.environ[name] for name in names}
    assert run(command, repository, **settings).stdout == "2 folders of mlflow-spool/ uploaded\n"
    connect(repository)
    check_complete()
    assert run(command, repository, **settings).stdout == "0 folders of mlflow-spool/ uploaded\n"


def test_an_evaluation_during_an_outage_finds_the_run_that_trained_the_model(server, repository):
    train(repository / "model.safetensors", {})
    server.stop()
    evaluate(repository / "model.safetensors")
    server.start()
    assert sync(repository) == (1, [])
    check_complete()


def test_an_evaluation_after_an_outage_completes_the_spooled_run(server, repository):
    train(repository / "model.safetensors", {2: server.stop})
    server.start()
    evaluate(repository / "model.safetensors")
    check_complete()
    assert sync(repository) == (0, [])


def test_what_the_server_refuses_is_an_error_without_the_password(server, repository, monkeypatch):
    refused = {"a" * 300: 0}
    with (
        pytest.raises(TrackingError, match="MLflow: "),
        training_run("train_aae", "gamma", 0, refused),
    ):
        pytest.fail("the training must not begin")
    (found,) = mlflow.search_runs(output_format="list")
    assert found.info.status == "FAILED"
    assert not (repository / "mlflow-spool").exists()
    server.stop()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("//", "//me:secret@"))
    with pytest.raises(StoreAwayError) as error:
        connect(repository)
    assert "secret" not in str(error.value)
    assert server.uri in str(error.value)


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("done", [0, 3])
def test_a_training_that_was_interrupted_goes_on_in_its_run(repository, done):
    training = str(uuid.uuid4())
    with pytest.raises(KeyboardInterrupt):
        train(repository / "model.safetensors", {5: interrupt}, training)
    (found,) = mlflow.search_runs(output_format="list")
    assert found.info.status == "KILLED"
    train(repository / "model.safetensors", {}, training, done)
    evaluate(repository / "model.safetensors")
    check_complete()


@pytest.mark.parametrize("away", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_training_that_was_killed_goes_on_in_its_run(server, repository, away):
    training = str(uuid.uuid4())
    program = f"""
import os, signal
from pathlib import Path
from tracking_example import train
events = {{5: lambda: os.kill(os.getpid(), signal.SIGKILL)}}
if {away}:
    events[3] = lambda: os.kill(os.getpid(), signal.SIGSTOP)
train(Path("model.safetensors"), events, {training!r})
"""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME")
    settings = {name: os.environ[name] for name in names} | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    }
    killed = start(["python", "-c", program], repository, **settings)
    if away:
        os.waitpid(killed.pid, os.WUNTRACED)
        server.stop()
        os.kill(killed.pid, signal.SIGCONT)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    server.start()
    connect(repository)  # selects the experiment
    (found,) = mlflow.search_runs(output_format="list")
    assert found.info.status == "RUNNING"
    # A snapshot was taken before epoch 4, so the images up to epoch 3 are not drawn again.
    train(repository / "model.safetensors", {}, training, 3)
    evaluate(repository / "model.safetensors")
    check_complete()
    assert sync(repository) == (0, [])


@pytest.mark.usefixtures("server")
def test_a_training_that_was_killed_after_its_end_ends_once_more(repository):
    training = str(uuid.uuid4())
    for done in (0, EPOCHS):
        train(repository / "model.safetensors", {}, training, done)
    evaluate(repository / "model.safetensors")
    check_complete()


@pytest.mark.parametrize("from_the_start", [False, True])
def test_ctrl_c_does_not_wait_for_a_server_that_is_away(
    server, repository, monkeypatch, from_the_start
):
    training = str(uuid.uuid4())
    if from_the_start:
        server.stop()
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):  # noqa: PT012

        def stop() -> None:
            context.setattr("aae.tracking.store.Store.write", lambda *_: pytest.fail("it waits"))

        train(repository / "model.safetensors", {3: server.stop, 4: stop, 5: interrupt}, training)
    assert len(list((repository / "mlflow-spool").iterdir())) == 1
    # Epochs 3 and 4 are in the spool and are also trained again.
    server.start()
    train(repository / "model.safetensors", {5: check_running}, training, 2)
    evaluate(repository / "model.safetensors")
    check_complete()
    assert not (repository / "mlflow-spool").exists()


def check_running() -> None:
    (found,) = mlflow.search_runs(output_format="list")
    assert found.info.status == "RUNNING"


def test_ctrl_c_in_an_evaluation_does_not_wait_either(server, repository, monkeypatch):
    train(repository / "model.safetensors", {})
    server.stop()

    def stop(_run: Run) -> None:
        context.setattr("aae.tracking.store.connect", lambda _: pytest.fail("it waits"))
        raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        evaluate(repository / "model.safetensors", stop)
    server.start()
    assert sync(repository) == (1, [])
    check_complete()


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("name", ["log_image", "log_model_artifacts"])
@pytest.mark.parametrize("resumed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_a_server_has_taken_whose_answer_was_lost_is_there_once(
    repository, monkeypatch, name, resumed
):
    done, lost, training = getattr(mlflow.MlflowClient, name), [], str(uuid.uuid4())
    if resumed:
        with pytest.raises(KeyboardInterrupt):
            train(repository / "model.safetensors", {3: interrupt}, training)

    def lose(*arguments: object, **named: object) -> object:
        answer = done(*arguments, **named)
        if not lost:
            lost.append(answer)
            raise ReadTimeout
        return answer

    monkeypatch.setattr(mlflow.MlflowClient, name, lose)
    train(repository / "model.safetensors", {}, training)
    assert lost
    evaluate(repository / "model.safetensors")
    check_complete()


def test_files_for_a_place_whose_package_is_not_there_do_not_end_a_training(
    repository, monkeypatch, capfd
):
    monkeypatch.setitem(sys.modules, "boto3", None)
    mlflow.set_tracking_uri(f"sqlite:///{repository / 'mlflow.db'}")
    mlflow.create_experiment("aae", artifact_location="s3://bucket/files")
    train(repository / "model.safetensors", {})
    assert "import of boto3 halted" in capfd.readouterr().err
    assert len(list((repository / "mlflow-spool").iterdir())) == 1


def test_a_database_that_is_damaged_during_a_training_does_not_end_it(repository, capfd):
    def damage() -> None:
        (repository / "mlflow.db").write_text("no database\n" * 100)

    train(repository / "model.safetensors", {2: damage})
    assert "file is not a database" in capfd.readouterr().err
    assert len(list((repository / "mlflow-spool").iterdir())) == 1


def test_a_store_whose_package_is_not_there_is_refused_at_once(repository, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg://me:secret@127.0.0.1/mlflow")
    with (
        pytest.raises(TrackingError, match=r"^MLflow: import of psycopg halted"),
        training_run("train_aae", "gamma", 0, {}),
    ):
        pytest.fail("the training must not begin")
    assert not (repository / "mlflow-spool").exists()


def test_the_end_of_a_long_token_is_no_more_printed_than_its_beginning(repository, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ci:{'token' * 50}@{address}")
        with pytest.raises(StoreAwayError, match=f"MLflow at http://{address} does not") as error:
            connect(repository)
    assert "token" not in str(error.value)


def delete_run() -> None:
    (found,) = mlflow.search_runs(output_format="list")
    mlflow.delete_run(found.info.run_id)


@pytest.mark.usefixtures("server")
def test_a_server_that_comes_to_refuse_a_run_does_not_stop_the_training(repository, capfd):
    train(repository / "model.safetensors", {3: delete_run})
    err = capfd.readouterr().err
    assert "; the stage continues" in err
    assert "must be in the 'active' state" in err
    (folder,) = (repository / "mlflow-spool").iterdir()
    # Nor may it prevent the upload of later runs.
    count, left = sync(repository)
    assert count == 0
    assert len(left) == 1
    assert folder.name in left[0]
    (deleted,) = mlflow.search_runs(
        run_view_type=mlflow.entities.ViewType.DELETED_ONLY, output_format="list"
    )
    mlflow.MlflowClient().restore_run(deleted.info.run_id)
    evaluate(repository / "model.safetensors")
    check_complete()


@pytest.mark.slow
def test_what_is_for_another_store_stays_in_the_spool(server, repository, monkeypatch):
    server.stop()
    train(repository / "model.safetensors", {})
    server.start()
    for name, other in (
        ("MLFLOW_EXPERIMENT_NAME", "another"),
        ("MLFLOW_TRACKING_URI", f"sqlite:///{repository / 'mlflow.db'}"),
    ):
        with monkeypatch.context() as context:
            context.setenv(name, other)
            # An evaluation for another store is recorded there, in a separate run.
            evaluate(repository / "model.safetensors")
            (found,) = mlflow.search_runs(output_format="list")
            assert found.info.run_name.endswith("(trained elsewhere)")
            result = run(
                ["aae", "sync"], repository, check=False,
                MLFLOW_TRACKING_URI=os.environ["MLFLOW_TRACKING_URI"],
                MLFLOW_EXPERIMENT_NAME=os.environ["MLFLOW_EXPERIMENT_NAME"],
            )  # fmt: skip
            assert result.returncode == 1
            assert f"is for {server.uri}, experiment {repository.parent.name}" in result.stderr
    evaluate(repository / "model.safetensors")
    check_complete()


def test_an_interrupted_upload_is_continued(server, repository, monkeypatch):
    server.stop()
    train(repository / "model.safetensors", {})
    server.start()
    with monkeypatch.context() as context:
        context.setattr("aae.tracking.store.SavedModel.write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            sync(repository)
    assert sync(repository) == (1, [])
    evaluate(repository / "model.safetensors")
    check_complete()


def test_an_interrupted_upload_of_a_new_run_does_not_make_another(server, repository, monkeypatch):
    server.stop()
    save_model(Model(ARCHITECTURE, seed=0), repository / "model.safetensors")
    evaluate(repository / "model.safetensors")
    server.start()
    with monkeypatch.context() as context:
        context.setattr("aae.tracking.store.Text.write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            sync(repository)
    assert sync(repository) == (1, [])
    (found,) = mlflow.search_runs(output_format="list")
    assert found.info.run_name.endswith("(trained elsewhere)")
    assert found.info.status == "FINISHED"


def test_ctrl_c_ends_an_upload_that_waits(repository):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = {"MLFLOW_TRACKING_URI": address, "MLFLOW_EXPERIMENT_NAME": "aae"}
        spooled_run = RunInfo(f"{address}, experiment aae", "", {}, 0)
        save_spooled(repository / "mlflow-spool" / "one", spooled_run, Text("", "a.txt"))
        process = start(["aae", "sync"], repository, **settings)
        silent.accept()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "interrupted\n")
    assert (repository / "mlflow-spool" / "one" / "run.json").exists()


def test_a_prior_may_have_any_name(server, repository):
    server.stop()
    with training_run("train_aae", "my/prior: 1", 0, {}):
        pass
    server.start()
    assert sync(repository) == (1, [])


def test_no_password_is_printed(server, repository, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("//", "//me:secret@"))
    train(repository / "model.safetensors", {3: server.stop})
    server.start()
    evaluate(repository / "model.safetensors")
    train(repository / "other.safetensors", {})
    server.stop()
    train(repository / "other.safetensors", {})
    printed = capfd.readouterr()
    assert "secret" not in printed.out + printed.err
    for path in (repository / "mlflow-spool").rglob("*.json"):
        assert "secret" not in path.read_text()


@pytest.mark.slow
def test_processes_that_meet_a_new_store_at_once_all_succeed(repository):
    """Without a lock, they create its tables or the experiment twice, and some of them fail."""
    program = (
        "from pathlib import Path; from aae.tracking.store import connect; connect(Path.cwd())"
    )
    command = [sys.executable, "-c", program]
    started = [
        subprocess.Popen(command, cwd=repository, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    errors = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0] * 4, errors
