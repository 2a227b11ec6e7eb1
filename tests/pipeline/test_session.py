import json
import math
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from servers import Door
from support import SIZES, make_digits, make_training

from aae.data import Source, split_source, write_prepared
from aae.data.images import Part
from aae.models import Architecture, Model
from aae.pipeline.session import Session, training_session
from aae.tracking.spool import load_spooled

EPOCHS = 3  # of three steps


def interrupt() -> None:
    """Raise the same error as Ctrl-C."""
    raise KeyboardInterrupt


@pytest.fixture
def train(repository, make_params):
    """Return a function that continues a training to its end or until it is killed."""
    digits = make_digits(60)
    part = Part.of(digits, digits[:, 0, 0, 0] // 200, (1, 4, 4))
    source = Source("digits", part, part, ("0", "1"))
    write_prepared(split_source(source, make_params({}).data, 0), source)
    declared = 'deps: [data], params: [seed, prior, "priors.${prior}", train_aae.epochs]'
    (repository / "dvc.yaml").write_text(f"stages: {{train_aae: {{{declared}}}}}")
    params = make_params(
        {"train_aae.epochs": EPOCHS, "train_aae.batch_size": 20, "snapshots.every": 0}
    )

    def train(kill_at: int | None = None, kill: Callable[[], None] = interrupt) -> Session:
        model = Model(Architecture(**SIZES), seed=0)
        training = make_training("train_aae", model, params, digits, digits)
        step = training.train_batch

        def train_batch(batch):
            if training.step == kill_at:
                kill()
            return step(batch)

        training.train_batch = train_batch
        with training_session("train_aae", params, training, "seen") as session:
            session.train(session.notes["seen"].append)
        return session

    return train


@pytest.fixture
def snapshot_each_step(monkeypatch) -> None:
    """Simulate a disk on which a snapshot takes no time."""
    monkeypatch.setattr("aae.training.snapshots.TIME_SHARE", math.inf)


@pytest.mark.usefixtures("snapshot_each_step")
@pytest.mark.parametrize(
    ("kill_at", "where"),
    [
        (0, "epoch 1, step 1 of 3"),
        (2, "epoch 1, step 3 of 3"),
        (7, "epoch 3, step 2 of 3"),
    ],
)
def test_a_killed_session_goes_on_and_sees_every_epoch_once(
    train, repository: Path, capsys, kill_at, where
):
    whole = train().notes
    with pytest.raises(KeyboardInterrupt):
        train(kill_at)
    killed = train()
    assert f"resuming from {where}\n" in capsys.readouterr().out
    assert json.dumps(killed.notes) == json.dumps(whole), "the same bytes in the same order"
    assert killed.notes["seen"] == list(range(EPOCHS + 1))
    assert killed.history["epoch"].tolist() == list(range(1, EPOCHS + 1))
    assert list((repository / "snapshots").iterdir()) == []
    runs = mlflow.search_runs(output_format="list")
    assert [found.info.status for found in runs] == ["FINISHED", "FINISHED"]
    for found in runs:
        assert epochs(found) == list(range(1, EPOCHS + 1))
        assert found.data.tags["prior"] == "gaussian"
        # The parameters that dvc.yaml declares, with the values behind "auto", and the data.
        logged = found.data.params
        assert logged["priors.gaussian.scale"] == "5.0"
        assert logged["train_aae.epochs"] == str(EPOCHS)
        assert logged["precision"] == "float32"
        assert logged["data.source"] == "mnist-5k"
        assert "train_aae.batch_size" not in logged


def epochs(run: mlflow.entities.Run) -> list[int]:
    """Epochs whose losses a run has."""
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "generator_loss")
    return [metric.step for metric in history]


@pytest.mark.usefixtures("snapshot_each_step")
def test_a_run_that_lacks_epochs_before_the_snapshot_gets_them(train, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        train(kill_at=7)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")  # where no run has any
    train()
    (found,) = mlflow.search_runs(output_format="list")
    assert epochs(found) == list(range(1, EPOCHS + 1))


@pytest.mark.usefixtures("snapshot_each_step")
def test_with_each_snapshot_what_the_server_has_missed_is_on_disk(train, repository, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{Door(0).port}")
    spooled: list[int] = []

    def look(_folder: Path, step: int, *_: object) -> None:
        if step == 6:
            (folder,) = (repository / "mlflow-spool").iterdir()
            _, records = load_spooled(folder)
            steps = (getattr(record, "step", 0) for record in records.values())
            spooled.extend(filter(None, steps))
            raise KeyboardInterrupt

    # The spool is written before the snapshot, after which these epochs are not recorded again.
    monkeypatch.setattr("aae.training.snapshots.write_snapshot", look)
    with pytest.raises(KeyboardInterrupt):
        train()
    assert spooled == [1, 2]
