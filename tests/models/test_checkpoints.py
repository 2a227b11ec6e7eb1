import pytest
import torch
from safetensors.torch import save_file

from aae.errors import ModelError
from aae.models import Architecture, Model
from aae.models.checkpoints import FORMAT, load_model, save_model
from aae.params import Posterior

PRIOR = {"name": "gamma", "distribution": "Gamma", "concentration": 2.0, "rate": 1.0}
ARCHITECTURE = Architecture(
    image_shape=(1, 4, 4), latent_dim=3, hidden=(8,), discriminator_hidden=(5,), prior=PRIOR,
    units="gaussian", posterior=Posterior(kind="gaussian", std=0.25, min_std=0.0),
)  # fmt: skip


def test_a_model_reads_back_equal_with_all_that_it_was_built_from(tmp_path):
    model = Model(ARCHITECTURE, seed=3)
    save_model(model, tmp_path / "models" / "aae.safetensors")
    read = load_model(tmp_path / "models" / "aae.safetensors")
    assert read.architecture == ARCHITECTURE
    assert read.architecture.prior == PRIOR
    expected = model.state_dict()
    assert list(read.state_dict()) == list(expected)
    assert all(torch.equal(value, expected[name]) for name, value in read.state_dict().items())


def test_an_autoencoder_has_no_discriminator(tmp_path):
    architecture = Architecture(image_shape=(1, 4, 4), latent_dim=1, hidden=(8,))
    save_model(Model(architecture, seed=0), tmp_path / "ae.safetensors")
    assert load_model(tmp_path / "ae.safetensors").discriminator is None


def test_the_same_model_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_model(Model(ARCHITECTURE, seed=3), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tensors: tensors.pop("units.tables"), 'Missing key(s) in state_dict: "units.tab'),
        (lambda tensors: tensors.update(extra=torch.ones(1)), "Unexpected key(s) in state_dict"),
        (lambda tensors: tensors.update({"units.tables": torch.ones(4)}), "size mismatch for uni"),
        (lambda tensors: tensors["units.tables"].fill_(torch.nan), "units.tables holds values th"),
        (
            lambda tensors: tensors.update({"units.tables": torch.ones(1, dtype=torch.float64)}),
            "units.tables is torch.float64; torch.float32 is expected",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tmp_path, damage, message):
    model = Model(ARCHITECTURE, seed=0)
    tensors = model.state_dict()
    damage(tensors)
    path = tmp_path / "aae.safetensors"
    save_file(tensors, path, {FORMAT: ARCHITECTURE.model_dump_json()})
    with pytest.raises(ModelError) as error:
        load_model(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "is not a model of this version"),
        ({"aae-model-0": "{}"}, "is not a model of this version"),
        ({FORMAT: "{}"}, "image_shape"),
        ({FORMAT: "not json"}, "Invalid JSON"),
    ],
)
def test_metadata_of_another_kind_is_refused(tmp_path, metadata, message):
    path = tmp_path / "aae.safetensors"
    save_file(Model(ARCHITECTURE, seed=0).state_dict(), path, metadata)
    with pytest.raises(ModelError, match=message):
        load_model(path)


def test_a_file_that_cannot_be_opened_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ModelError, match="Is a directory"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no safetensors file at all", None])
def test_damaged_and_missing_files_are_refused(tmp_path, content):
    path = tmp_path / "aae.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"aae\.safetensors"):
        load_model(path)
