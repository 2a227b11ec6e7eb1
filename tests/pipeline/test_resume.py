"""The snapshots from which a training stage resumes, and their deletion."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import SIZES
from support import make_training as make

from aae.errors import OutputError
from aae.models import Architecture, Model
from aae.pipeline.resume import keep_snapshots, training_key
from aae.training import Training


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def make_training(make_params, digits) -> Callable[[], Training]:
    """Return a function that always makes the same training, at its start."""
    params = make_params({"train_ae.batch_size": 20, "train_ae.epochs": 4})
    sizes = SIZES | {"discriminator_hidden": None}

    def training() -> Training:
        model = Model(Architecture(**sizes), seed=0)
        return make("train_ae", model, params, digits[:45], digits[45:])

    return training


@pytest.fixture(autouse=True)
def stage(tmp_path, monkeypatch) -> Path:
    """A repository with a stage that depends on a file and a folder."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images").write_text("data")
    (tmp_path / "code.py").write_text("code")
    (tmp_path / "dvc.yaml").write_text("stages: {train: {deps: [data, code.py]}}")
    monkeypatch.chdir(tmp_path)
    for name in ("AAE_TRIAL", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def go_to(training: Training, step: int) -> None:
    """Train up to a step."""

    def stop() -> None:
        if training.step == step:
            raise KilledError

    with pytest.raises(KilledError):
        list(training.epochs(stop))


def kill(make_training, params: dict, step: int) -> tuple[str, int]:
    """Continue a training up to a step, then kill it; return its id and where it resumed."""
    training = make_training()
    with (  # noqa: PT012
        pytest.raises(KilledError),
        keep_snapshots("train", params, 0, training, {}) as (snapshots, name),
    ):
        began = training.step
        go_to(training, step)
        snapshots.save()
        raise KilledError
    return name, began


def test_a_training_goes_on_until_its_end_and_then_its_snapshots_go(make_training, stage):
    name, _ = kill(make_training, {"seed": 0}, step=4)
    assert kill(make_training, {"seed": 0}, step=7) == (name, 4)
    training = make_training()
    with keep_snapshots("train", {"seed": 0}, 0, training, {}) as (_, same):
        assert (same, training.step) == (name, 7)
    assert list((stage / "snapshots").iterdir()) == []
    with keep_snapshots("train", {"seed": 1}, 0, make_training(), {}):
        shutil.rmtree(stage / "snapshots")  # the documentation allows it at any time
    again, began = kill(make_training, {"seed": 0}, step=1)
    assert again != name
    assert began == 0


@pytest.mark.parametrize("path", ["data/images", "code.py", "data/more", None])
def test_a_snapshot_of_other_code_data_or_parameters_is_not_used(make_training, stage, path):
    kill(make_training, {"seed": 0}, step=4)
    params = {"seed": 0}
    if path is None:
        params = {"seed": 1}
    else:
        (stage / path).write_text("changed")
    assert kill(make_training, params, step=6)[1] == 0
    if path == "code.py":
        (stage / path).write_text("code")
        assert kill(make_training, params, step=7)[1] == 4


def test_the_same_training_side_by_side_keeps_snapshots_of_its_own(make_training, stage):
    first, second = make_training(), make_training()
    with keep_snapshots("train", {}, 0, first, {}) as (one, name):
        with keep_snapshots("train", {}, 0, second, {}) as (other, other_name):
            assert name != other_name
            assert one.folder != other.folder
        assert one.folder.exists()
        name, _ = kill(make_training, {}, step=3)
    # The snapshots of the killed training must be found although the first one has ended.
    assert kill(make_training, {}, step=4) == (name, 3)
    assert len(list((stage / "snapshots").iterdir())) == 1


def test_a_trial_has_the_same_id_on_every_machine(make_training, tmp_path, monkeypatch):
    def name(machine: str, params: dict) -> str:
        root = tmp_path / machine
        shutil.copytree(tmp_path / "data", root / "data", dirs_exist_ok=True)
        for file in ("code.py", "dvc.yaml"):
            shutil.copy(tmp_path / file, root)
        (root / ".dvc").mkdir(exist_ok=True)
        monkeypatch.chdir(root)
        return kill(make_training, params, step=1)[0]

    monkeypatch.setenv("AAE_TRIAL", "one")
    first = name("a", {"seed": 0})
    assert name("b", {"seed": 0}) == first
    assert name("b", {"seed": 1}) != first
    monkeypatch.setenv("AAE_TRIAL", "two")
    assert name("c", {"seed": 0}) != first


def test_another_trial_of_a_sweep_takes_the_training_as_it_ended(make_training, monkeypatch):
    names, steps = [], []
    for trial in ("one", "two"):
        monkeypatch.setenv("AAE_TRIAL", trial)
        training = make_training()
        with keep_snapshots("train", {}, 0, training, {}, reused=True) as (_, name):
            names.append(name)
            steps.append(training.step)
            list(training.epochs())
    assert steps == [0, training.steps]
    assert names[0] == names[1], "it is the same training, in one run"


def test_a_snapshot_of_another_gpu_is_not_used(monkeypatch):
    def key(gpu: str, device: str) -> str:
        monkeypatch.setattr("torch.cuda.get_device_name", lambda: gpu)
        return training_key("train", {"device": device})

    assert key("one", "cuda") != key("another", "cuda")
    assert key("one", "cpu") == key("another", "cpu")


def test_only_with_own_networks_or_bf16_the_number_of_threads_counts(monkeypatch):
    def key(threads: int, kind: str, precision: str = "float32") -> str:
        monkeypatch.setattr("torch.get_num_threads", lambda: threads)
        settings = {"device": "cpu", "precision": precision, "network": {"kind": kind}}
        return training_key("train", settings)

    assert key(1, "my.networks") != key(2, "my.networks")
    assert key(1, "conv") == key(2, "conv")
    assert key(1, "mlp") == key(2, "mlp")
    assert key(1, "mlp", "bf16") != key(2, "mlp", "bf16")


def test_ctrl_c_says_where_the_training_goes_on(make_training, capsys, monkeypatch):
    for step, experiment, expected in (
        (0, "", "starts again at epoch 1, step 1 of 3 with the next `dvc repro`"),
        (4, "mine", "resumes from epoch 2, step 2 of 3 with the same `dvc exp run`"),
    ):
        monkeypatch.setenv("DVC_EXP_NAME", experiment)
        training = make_training()
        with (  # noqa: PT012
            pytest.raises(KeyboardInterrupt),
            keep_snapshots("train", {}, 0, training, {}) as (snapshots, _),
        ):
            go_to(training, step)
            if step:
                snapshots.save()
            raise KeyboardInterrupt
        assert f"train {expected}" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_named(make_training, stage):
    (stage / "snapshots").write_text("a file")
    with (
        pytest.raises(OutputError, match="snapshots"),
        keep_snapshots("train", {}, 0, make_training(), {}),
    ):
        pytest.fail("it must not begin")
