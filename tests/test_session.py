from pathlib import Path

import mlflow
import pytest
from conftest import make_digits

from aae.data import Images, write_prepared
from aae.networks import Architecture, Model
from aae.session import Session, training_session
from aae.training import AdversarialTraining

SIZES = {"image_shape": (1, 4, 4), "latent_dim": 2, "hidden": (32,), "discriminator_hidden": (32,)}
EPOCHS = 3  # of three steps


@pytest.fixture
def train(repository, make_params):
    """Return a function that goes on with a training, to its end or until it is killed."""
    digits = make_digits(60)
    part = Images(digits, digits[:, 0, 0, 0] // 200)
    write_prepared(dict.fromkeys(("train", "validation", "test"), part), "digits", ("0", "1"))
    (repository / "dvc.yaml").write_text("stages: {train_aae: {deps: [data]}}")
    params = make_params(
        {"train_aae.epochs": EPOCHS, "train_aae.batch_size": 20, "snapshots.every": 0}
    )

    def train(kill_at: int | None = None) -> Session:
        model = Model(Architecture(**SIZES), seed=0)
        training = AdversarialTraining(
            model, params.latent_prior, params.train_aae, digits, digits, params.seed
        )
        step = training.train_batch

        def train_batch(batch):
            if training.step == kill_at:
                raise KeyboardInterrupt
            return step(batch)

        training.train_batch = train_batch
        determined_by = {"seed": 0, "prior": {"name": "gaussian"}}
        with training_session("train_aae", params, determined_by, training, "seen") as session:
            session.train(session.notes["seen"].append)
        return session

    return train


@pytest.mark.parametrize("kill_at", [0, 4])
def test_a_killed_session_goes_on_and_sees_every_epoch_once(train, repository: Path, kill_at):
    whole = train().notes
    with pytest.raises(KeyboardInterrupt):
        train(kill_at)
    killed = train()
    assert killed.snapshots.resumed
    assert killed.notes == whole
    assert killed.notes["seen"] == list(range(EPOCHS + 1))
    assert killed.history["epoch"].tolist() == list(range(1, EPOCHS + 1))
    assert list((repository / "snapshots").iterdir()) == []
    runs = mlflow.search_runs(output_format="list")
    assert [found.info.status for found in runs] == ["FINISHED", "FINISHED"]
    for found in runs:
        history = mlflow.MlflowClient().get_metric_history(found.info.run_id, "generator_loss")
        assert [metric.step for metric in history] == list(range(1, EPOCHS + 1))
        assert found.data.tags["prior"] == "gaussian"
