"""A training that resumes from a snapshot is identical to one that never stopped."""

import copy
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from support import SIZES, STOCHASTIC
from support import make_training as make

from aae.errors import SnapshotError
from aae.models import Architecture, Model
from aae.training import Training
from aae.training.snapshots import Snapshots, read_snapshot, write_snapshot

EPOCHS, STEPS = 4, 12  # three steps in each epoch


@pytest.fixture(params=["train_ae", "train_aae"])
def make_training(request, make_params, digits) -> Callable[[], Training]:
    """Return a function that always makes the same training, at its start."""

    def training() -> Training:
        stage = request.param
        params = make_params({f"{stage}.batch_size": 20, f"{stage}.epochs": EPOCHS})
        sizes = STOCHASTIC if stage == "train_aae" else SIZES | {"discriminator_hidden": None}
        return make(stage, Model(Architecture(**sizes), seed=0), params, digits[:45], digits[45:])

    return training


class KilledError(Exception):
    """Stands for the end of the process."""


def train(training: Training, kill_at: int | None = None) -> tuple[list, dict]:
    """Train up to a step; return the losses of whole epochs, and the last state."""
    losses: list = []

    def between_steps() -> None:
        if training.step == kill_at:
            raise KilledError

    with suppress(KilledError):
        losses.extend(training.epochs(between_steps))
    return losses, copy.deepcopy(training.state_dict())


def leaves(state: object, name: str = "") -> dict[str, object]:
    """Return the values in a nested state by their paths, with tensors as bytes."""
    if isinstance(state, dict | list | tuple):
        items = state.items() if isinstance(state, dict) else enumerate(state)
        return {k: v for key, x in items for k, v in leaves(x, f"{name}/{key}").items()}
    return {name: state.numpy().tobytes() if isinstance(state, torch.Tensor) else state}


@pytest.mark.parametrize("step", [0, 1, 3, 5, 11])
def test_a_training_goes_on_in_exactly_the_same_way(make_training, tmp_path, step):
    losses, end = train(make_training())
    _, state = train(make_training(), kill_at=step)
    write_snapshot(tmp_path, step, state, {})
    (path,) = tmp_path.glob("*.pt")
    training = make_training()
    training.load_state_dict(read_snapshot(path)[0])
    rest, resumed_end = train(training)
    # The order of the names must also be the same, since it is that of the history's columns.
    assert [list(epoch.items()) for epoch in rest] == [
        list(epoch.items()) for epoch in losses[step // 3 :]
    ]
    assert leaves(end) == leaves(resumed_end)
    assert end["step"] == STEPS


DAMAGES = {
    "lacks a tensor": lambda state: state["model"].popitem(),
    "has a tensor too many": lambda state: state["model"].update(extra=torch.zeros(1)),
    "has another shape": lambda state: state["model"].update(
        {"encoder.layers.0.bias": torch.zeros(3)}
    ),
    "lacks an optimiser": lambda state: state["optimisers"].popitem(),
    "is of no step": lambda state: state.update(step=-1),
    "is of a step after the end": lambda state: state.update(step=STEPS + 1),
    "has no generator": lambda state: state["batches"]["batch order"].fill_(255),
    "is something else": lambda state: state.clear(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(make_training, damage):
    _, state = train(make_training(), kill_at=5)
    damage(state)
    training = make_training()
    _, before = train(training, kill_at=2)
    with pytest.raises(SnapshotError):
        training.load_state_dict(state)
    assert leaves(training.state_dict()) == leaves(before)


def snapshots_of(make_training, folder: Path, steps: tuple[int, ...]) -> list[Path]:
    """Write snapshots of some steps; return their paths, the oldest first."""
    for step in steps:
        training = make_training()
        train(training, kill_at=step)
        Snapshots(folder, 0, training, {"history": list(range(step))}).save()
    return sorted(folder.glob("*.pt"))


def resumed(make_training, folder: Path) -> tuple[int, list]:
    """Return the step at which a new training resumes, and its history."""
    notes: dict = {"history": []}
    training = make_training()
    Snapshots(folder, 0, training, notes).resume()
    return training.step, notes["history"]


def test_the_newest_good_snapshot_is_used(make_training, tmp_path, capsys):
    older, newer = snapshots_of(make_training, tmp_path, (3, 5, 7))
    assert [int(path.name[:12]) for path in (older, newer)] == [5, 7], "only two are kept"
    assert resumed(make_training, tmp_path) == (7, list(range(7)))
    assert capsys.readouterr().out == "resuming from epoch 3, step 2 of 3\n"
    for path, step in ((newer, 5), (older, 0)):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        assert resumed(make_training, tmp_path) == (step, list(range(step)))
        assert f"{path} is skipped: it is damaged" in capsys.readouterr().err
        assert not path.exists(), "else it would count as the newest"


@pytest.mark.parametrize("length", [0, 1, 1000])
def test_a_snapshot_that_was_cut_off_is_passed_over(make_training, tmp_path, capsys, length):
    older, newer = snapshots_of(make_training, tmp_path, (3, 5))
    newer.write_bytes(newer.read_bytes()[:length])
    assert resumed(make_training, tmp_path)[0] == int(older.name[:12])
    assert capsys.readouterr().err.count("is skipped") == 1


def test_what_was_being_written_when_it_was_killed_goes(make_training, tmp_path):
    snapshots_of(make_training, tmp_path, (3,))
    partial = tmp_path / ".000000000005-abc.pt.partial"
    partial.mkdir()
    (partial / "000000000005-abc.pt").write_bytes(b"half")
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
        assert len(list(snapshots.folder.glob("*.pt"))) == expected


def test_snapshots_take_a_hundredth_of_the_time_at_most(make_training, tmp_path, monkeypatch):
    training = make_training()
    # The start, a snapshot that takes two seconds, a moment before the next one is due, and then.
    clock = iter([0.0, 5.0, 7.0, 206.9, 207.0, 207.1])
    monkeypatch.setattr("aae.training.snapshots.time.monotonic", lambda: next(clock))
    snapshots = Snapshots(tmp_path, 5, training, {"history": []})
    assert [snapshots.save_when_due() for _ in range(3)] == [True, False, True]


def test_a_disk_that_does_not_take_a_snapshot_does_not_end_the_training(
    make_training, tmp_path, capsys
):
    training = make_training()
    snapshots = Snapshots(tmp_path / "folder", 0, training, {"history": []})
    shutil.rmtree(tmp_path / "folder", ignore_errors=True)
    (tmp_path / "folder").write_text("in the way")
    assert len(list(training.epochs(snapshots.save_when_due))) == EPOCHS
    assert "warning: no snapshot was written: " in capsys.readouterr().err
