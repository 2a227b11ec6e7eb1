"""A training that goes on from a snapshot is the same to the last bit as one that never stopped."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from support import SIZES

from aae.errors import OutputError, SnapshotError
from aae.training.loop import Training
from aae.models.networks import Architecture, Model
from aae.training.snapshots import Snapshots, keep_snapshots, read_snapshot, training_key, write_snapshot
from aae.training.phases import AdversarialTraining, AutoencoderTraining

EPOCHS, STEPS = 4, 12  # three steps an epoch


@pytest.fixture(params=["train_ae", "train_aae"])
def make_training(request, make_params, digits) -> Callable[[], Training]:
    """Return a function that makes the same training, at its start, each time."""

    def make() -> Training:
        stage = request.param
        params = make_params({f"{stage}.batch_size": 20, f"{stage}.epochs": EPOCHS})
        images = (digits[:45], digits[45:], params.seed)
        if stage == "train_ae":
            model = Model(Architecture(**SIZES | {"discriminator_hidden": None}), seed=0)
            return AutoencoderTraining(model, params.train_ae, *images)
        model = Model(Architecture(**SIZES), seed=0)
        return AdversarialTraining(model, params.latent_prior, params.train_aae, *images)

    return make


class KilledError(Exception):
    """Stands for the end of the process."""


def train(training: Training, kill_at: int | None = None) -> tuple[list, dict]:
    """Train up to a step; return the losses of whole epochs, and the state there or at the end."""
    losses: list = []

    def between_steps() -> None:
        if training.step == kill_at:
            raise KilledError

    with suppress(KilledError):
        losses.extend(training.epochs(between_steps))
    return losses, {name: tensor.clone() for name, tensor in training.state().items()}


def equal(state: dict, other: dict) -> bool:
    return state.keys() == other.keys() and all(torch.equal(x, other[k]) for k, x in state.items())


@pytest.mark.parametrize("step", [0, 1, 3, 5, 11])
def test_a_training_goes_on_in_exactly_the_same_way(make_training, tmp_path, step):
    losses, end = train(make_training())
    _, state = train(make_training(), kill_at=step)
    write_snapshot(tmp_path, step, state, {})
    (path,) = tmp_path.glob("*.safetensors")
    training = make_training()
    training.load_state(read_snapshot(path)[0])
    rest, resumed_end = train(training)
    # Names come in the same order, too: it is that of the columns of the history.
    assert [list(epoch.items()) for epoch in rest] == [
        list(epoch.items()) for epoch in losses[step // 3 :]
    ]
    assert equal(end, resumed_end)
    assert end["step"] == STEPS


DAMAGES = {
    "lacks a tensor": lambda state: state.pop("batch order"),
    "has a tensor too many": lambda state: state.update(extra=torch.zeros(1)),
    "has another shape": lambda state: state.update({"model/encoder.mean": torch.zeros(3)}),
    "has another type": lambda state: state.update({"step": torch.tensor(3.0)}),
    "is not finite": lambda state: state["model/encoder.layers.0.bias"].fill_(torch.nan),
    "is of the end": lambda state: state["step"].fill_(STEPS),
    "is of no step": lambda state: state["step"].fill_(-1),
    "has no generator": lambda state: state["batch order"].fill_(255),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(make_training, damage):
    _, state = train(make_training(), kill_at=5)
    damage(state)
    training = make_training()
    _, before = train(training, kill_at=2)
    with pytest.raises(SnapshotError):
        training.load_state(state)
    assert equal(training.state(), before)


def snapshots_of(make_training, folder: Path, steps: tuple[int, ...]) -> list[Path]:
    """Write snapshots of some steps; return their paths, the oldest first."""
    for step in steps:
        training = make_training()
        train(training, kill_at=step)
        Snapshots(folder, 0, training, {"history": list(range(step))}).save()
    return sorted(folder.glob("*.safetensors"))


def resumed(make_training, folder: Path) -> tuple[int, list]:
    """Return the step at which a new training goes on, and its history."""
    notes: dict = {"history": []}
    training = make_training()
    Snapshots(folder, 0, training, notes).resume()
    return training.step, notes["history"]


def test_the_newest_good_snapshot_is_used(make_training, tmp_path, capsys):
    older, newer = snapshots_of(make_training, tmp_path, (3, 5, 7))
    assert [int(path.name[:12]) for path in (older, newer)] == [5, 7], "only two are kept"
    assert resumed(make_training, tmp_path) == (7, list(range(7)))
    assert capsys.readouterr().out == "going on from epoch 3, step 2 of 3\n"
    for path, step in ((newer, 5), (older, 0)):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1  # one bit of a weight
        path.write_bytes(content)
        assert resumed(make_training, tmp_path) == (step, list(range(step)))
        assert f"{path} is passed over: it is damaged" in capsys.readouterr().err
        assert not path.exists(), "else it would count as the newest"


@pytest.mark.parametrize("length", [0, 1, 1000])
def test_a_snapshot_that_was_cut_off_is_passed_over(make_training, tmp_path, capsys, length):
    older, newer = snapshots_of(make_training, tmp_path, (3, 5))
    newer.write_bytes(newer.read_bytes()[:length])
    assert resumed(make_training, tmp_path)[0] == int(older.name[:12])
    assert capsys.readouterr().err.count("passed over") == 1


def test_what_was_being_written_when_it_was_killed_goes(make_training, tmp_path):
    snapshots_of(make_training, tmp_path, (3,))
    partial = tmp_path / ".000000000005-abc.safetensors.partial"
    partial.mkdir()
    (partial / "000000000005-abc.safetensors").write_bytes(b"half")
    assert resumed(make_training, tmp_path)[0] == 3
    assert not partial.exists()


def test_notes_of_another_kind_are_passed_over(make_training, tmp_path, capsys):
    training = make_training()
    Snapshots(tmp_path, 0, training, {"something": []}).save()
    assert resumed(make_training, tmp_path)[0] == 0
    assert "notes are not those" in capsys.readouterr().err


def test_a_snapshot_is_taken_when_it_is_due_and_not_before(make_training, tmp_path):
    for every, expected in ((0, 1), (1e9, 0)):
        training = make_training()
        snapshots = Snapshots(tmp_path / str(every), every, training, {"history": []})
        assert snapshots.save_when_due() == bool(expected)
        assert len(list(snapshots.folder.glob("*.safetensors"))) == expected


def test_snapshots_take_a_hundredth_of_the_time_at_most(make_training, tmp_path, monkeypatch):
    training = make_training()
    # When it begins; a snapshot that takes two seconds; a moment before the next one is due, then.
    clock = iter([0.0, 5.0, 7.0, 206.9, 207.0, 207.1])
    monkeypatch.setattr("aae.training.snapshots.time.monotonic", lambda: next(clock))
    snapshots = Snapshots(tmp_path, 5, training, {"history": []})
    assert [snapshots.save_when_due() for _ in range(3)] == [True, False, True]


def test_a_disk_that_does_not_take_a_snapshot_does_not_end_the_training(
    make_training, tmp_path, capsys
):
    training = make_training()
    snapshots = Snapshots(tmp_path / "folder", 0, training, {"history": []})
    shutil.rmtree(tmp_path / "folder")
    (tmp_path / "folder").write_text("in the way")
    assert len(list(training.epochs(snapshots.save_when_due))) == EPOCHS
    assert "warning: no snapshot: " in capsys.readouterr().err


@pytest.fixture
def stage(tmp_path, monkeypatch) -> Path:
    """A repository with a stage that depends on a file and a folder."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images").write_text("data")
    (tmp_path / "code.py").write_text("code")
    (tmp_path / "dvc.yaml").write_text("stages: {train: {deps: [data, code.py]}}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kill(make_training, params: dict, step: int) -> tuple[str, int]:
    """Go on with a training up to a step, and kill it; return its id and where it went on."""
    training = make_training()
    with pytest.raises(KilledError), keep_snapshots("train", params, 0, training, {}) as snapshots:  # noqa: PT012
        began = training.step
        train(training, kill_at=step)
        snapshots.save()
        raise KilledError
    return snapshots.id, began


def test_a_training_goes_on_until_its_end_and_then_its_snapshots_go(make_training, stage):
    name, _ = kill(make_training, {"seed": 0}, step=4)
    assert kill(make_training, {"seed": 0}, step=7) == (name, 4)
    training = make_training()
    with keep_snapshots("train", {"seed": 0}, 0, training, {}) as snapshots:
        assert (snapshots.id, training.step) == (name, 7)
    assert list((stage / "snapshots").iterdir()) == []
    with keep_snapshots("train", {"seed": 1}, 0, make_training(), {}):
        shutil.rmtree(stage / "snapshots")  # as the README allows at any time
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
    with keep_snapshots("train", {}, 0, first, {}) as one:
        with keep_snapshots("train", {}, 0, second, {}) as other:
            assert one.id != other.id
            assert one.folder != other.folder
        assert one.folder.exists()
        name, _ = kill(make_training, {}, step=3)
    # What the one that was killed has left is found, though the first has ended.
    assert kill(make_training, {}, step=4) == (name, 3)
    assert len(list((stage / "snapshots").iterdir())) == 1


def test_a_trial_has_the_same_trainings_on_every_machine(make_training, tmp_path, monkeypatch):
    def name(machine: str, key: str) -> str:
        return Snapshots(tmp_path / machine / key, 9, make_training(), {"history": []}).id

    monkeypatch.setenv("AAE_TRIAL", "one")
    first = name("a", "train_ae-0123.1")
    # Whatever number the folder has there.
    assert name("b", "train_ae-0123.2") == first
    assert name("b", "train_ae-4567.1") != first
    monkeypatch.setenv("AAE_TRIAL", "two")
    assert name("b", "train_ae-0123.1") != first


@pytest.mark.usefixtures("stage")
def test_a_snapshot_of_another_gpu_is_not_used(monkeypatch):
    def key(gpu: str, device: str) -> str:
        monkeypatch.setattr("torch.cuda.get_device_name", lambda: gpu)
        return training_key("train", {"device": device})

    assert key("one", "cuda") != key("another", "cuda")
    assert key("one", "cpu") == key("another", "cpu")


@pytest.mark.usefixtures("stage")
def test_ctrl_c_says_where_the_training_goes_on(make_training, capsys, monkeypatch):
    for step, experiment, expected in (
        (0, "", "begins again at epoch 1, step 1 of 3 with the next `dvc repro`"),
        (4, "mine", "goes on from epoch 2, step 2 of 3 with the same `dvc exp run`"),
    ):
        monkeypatch.setenv("DVC_EXP_NAME", experiment)
        training = make_training()
        with (  # noqa: PT012
            pytest.raises(KeyboardInterrupt),
            keep_snapshots("train", {}, 0, training, {}) as snapshots,
        ):
            train(training, kill_at=step)
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
