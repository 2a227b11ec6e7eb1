"""A malformed file that the project reads leads to one of the project's errors."""

import copy
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from safetensors.torch import save
from support import ROOT, data_settings

from aae.data import Source, check_source, read_source
from aae.errors import AAEError, DataError, ModelError, ParameterError, SnapshotError
from aae.models import Architecture, Model
from aae.models.checkpoints import FORMAT, load_model, save_model
from aae.params import BY_DIMENSIONS, Params, flatten, load_params
from aae.training.snapshots import read_snapshot, write_snapshot

# Derandomised: the examples are always the same, so that tests that pass here pass everywhere.
many = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

VALID = YAML(typ="safe").load(ROOT / "params.yaml")
# Sections, in addition to `priors`, whose keys the user chooses.
FREE = (("regression", "metrics"), ("regression", "overrides"))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 10**9, 10**18, 10**40, -(10**40)])
    | st.floats()
    | st.sampled_from(["", "nan", "Normal", "Gamma", "SwissRoll", "__class__", "gaussian", "1e-3"])
    | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(), children, max_size=3)
    ),
    max_leaves=4,
)


def paths(values: dict, prefix: tuple = ()) -> list[tuple]:
    """Return the paths to all keys of nested parameters."""
    found = []
    for key, value in values.items():
        found.append((*prefix, key))
        if isinstance(value, dict):
            found += paths(value, (*prefix, key))
    return found


def attempt(refusal: type[AAEError], function: Callable, *arguments: object) -> Any:
    """Return the result of a function, or None after one of the project's errors of one line."""
    try:
        return function(*arguments)
    except refusal as error:
        message = str(error)
    assert "\n" not in message
    return None


def check_params(content: bytes) -> Params | None:
    """Load parameters, or return None if they are refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_bytes(content)
        return attempt(ParameterError, load_params, path)


edits = given(path=st.sampled_from(paths(VALID)), value=VALUES, name=st.text(max_size=6))


def check_edits(path: tuple, value: object, name: str) -> None:
    """Change a value, a name, or both; check what is accepted, and the values that it has."""
    for change in ("value", "name", "nothing"):
        params = copy.deepcopy(VALID)
        section = params
        for key in path[:-1]:
            section = section[key]
        if change == "value":
            section[path[-1]] = value
        else:
            old = section.pop(path[-1])
            if change == "name":
                section[name] = old
        stream = io.BytesIO()
        YAML(typ="safe").dump(params, stream)
        accepted = check_params(stream.getvalue())
        # A prior that is not chosen may be missing or have any name, and so may a guarded metric or
        # an override: only the gate knows what is measured.
        free = path[0] == "priors" or (len(path) == 3 and path[:2] in FREE)
        assert accepted is None or change == "value" or free or name == path[-1]
        if accepted is not None and change == "value":
            found = flatten(accepted.model_dump())
            for key, number in flatten(YAML(typ="safe").load(stream.getvalue())).items():
                if key in found and (number != "auto" or key not in BY_DIMENSIONS):
                    # Lists instead of tuples, and keys that are texts
                    one, other = (json.loads(json.dumps(x)) for x in (found[key], number))
                    assert one == other or repr(one) == repr(other), "which holds if both are NaN"


@many
@edits
@example(path=("latent_dim",), value=10**18, name="")
@example(path=("priors", "gamma"), value={"distribution": "Gamma", "rate": [1.0]}, name="")
@example(path=("regression", "metrics", "aae.match_ratio", "absolute"), value=2**53 + 1, name="")
def test_parameters_with_a_wrong_value_or_name(path, value, name):
    check_edits(path, value, name)


@pytest.mark.slow
@settings(many, max_examples=3400)  # three edits each
@edits
def test_parameters_with_ten_thousand_edits(path, value, name):
    check_edits(path, value, name)


@many
@given(content=st.binary(max_size=200))
def test_parameters_that_are_any_bytes(content):
    assert check_params(content) is None


def damage(content: bytes, data: st.DataObject) -> bytes:
    """Truncate a file, lengthen it, or change bytes in its first hundred or anywhere in it."""
    kind = data.draw(st.sampled_from(["cut", "lengthen", "header", "anywhere"]))
    if kind == "cut":
        return content[: data.draw(st.integers(0, len(content) - 1))]
    if kind == "lengthen":
        return content + data.draw(st.binary(min_size=1, max_size=50))
    damaged = bytearray(content)
    last = min(100, len(content)) if kind == "header" else len(content)
    places = data.draw(st.lists(st.integers(0, last - 1), min_size=1, max_size=4, unique=True))
    for place in places:
        damaged[place] ^= data.draw(st.integers(1, 255))
    return bytes(damaged)


def read_checked(root: Path) -> Source:
    source = read_source(data_settings("mnist", root))
    check_source(source)
    return source


@many
@given(data=st.data())
def test_idx_files(data, mnist_root):
    name = data.draw(st.sampled_from(sorted(p.name for p in (mnist_root / "MNIST/raw").iterdir())))
    with tempfile.TemporaryDirectory() as folder:
        raw = shutil.copytree(mnist_root / "MNIST" / "raw", Path(folder) / "MNIST" / "raw")
        content = (raw / name).read_bytes()
        (raw / name).write_bytes(damaged := damage(content, data))
        source = attempt(DataError, read_checked, Path(folder))
        if source is not None:
            # A changed grey value or class cannot be detected; every other damage can.
            assert len(damaged) >= len(content)
            assert (len(source.train), source.train.shape) == (200, (1, 28, 28))
            assert (len(source.test), source.test.shape) == (50, (1, 28, 28))
        assert (raw / name).read_bytes() == damaged


ARCHITECTURE = Architecture(image_shape=(1, 4, 4), latent_dim=3, hidden=(8,))


@many
@given(data=st.data())
def test_model_files(data, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(Model(ARCHITECTURE, seed=0), path)
    path.write_bytes(damage(path.read_bytes(), data))
    model = attempt(ModelError, load_model, path)
    if model is not None:
        # A changed but finite weight cannot be detected.
        like = Model(model.architecture, seed=0)
        assert {k: x.shape for k, x in model.state_dict().items()} == {
            k: x.shape for k, x in like.state_dict().items()
        }
        assert all(torch.isfinite(x).all() for x in model.state_dict().values())


NUMBERS = st.integers(-2, 3) | st.sampled_from([2**20, 2**31, 2**62, 10**30])


@many
@given(
    architecture=st.fixed_dictionaries(
        {
            "image_shape": st.lists(NUMBERS, max_size=4),
            "latent_dim": NUMBERS,
        },
        optional={
            "hidden": st.lists(NUMBERS, max_size=3),
            "network": VALUES
            | st.fixed_dictionaries(
                {"kind": st.sampled_from(["mlp", "conv", "os.abort"])},
                optional={
                    "hidden": st.lists(NUMBERS, max_size=3),
                    "channels": st.lists(NUMBERS, max_size=3),
                },
            ),
            "discriminator_hidden": st.none() | st.lists(NUMBERS, max_size=3),
            "prior": VALUES
            | st.fixed_dictionaries({"distribution": VALUES}, optional={"loc": VALUES})
            | st.just({"name": "gaussian", "distribution": "Normal", "loc": 0.0, "scale": 1.0}),
            "units": st.sampled_from(["gaussian", "codes", "inches"]),
            "posterior": VALUES,
            "more": VALUES,
        },
    )
)
def test_model_files_that_ask_for_another_network(architecture, tmp_path):
    path = tmp_path / "model.safetensors"
    weights = Model(ARCHITECTURE, seed=0).state_dict()
    path.write_bytes(save(weights, metadata={FORMAT: json.dumps(architecture)}))
    assert attempt(ModelError, load_model, path) is None, "no such network has these weights"


@many
@given(data=st.data())
def test_snapshots(data, tmp_path):
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    write_snapshot(folder, 7, {"step": torch.tensor(7), "weights": torch.ones(40)}, {"a": [1.5]})
    (path,) = folder.iterdir()
    path.write_bytes(damage(path.read_bytes(), data))
    assert attempt(SnapshotError, read_snapshot, path) is None, "the digest tells"
