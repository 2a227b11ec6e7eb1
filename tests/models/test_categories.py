"""The names of classes, from the labels of a training to the file of a model."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import SIZES, make_digits

from aae.data import Images, known_labels
from aae.errors import ModelError
from aae.models import Architecture, Model, load_model, save_model
from aae.models.categories import Categories
from aae.models.checkpoints import FORMAT
from aae.training import adversarial_training

NAMES = ("cat", "dog", "ship")
SMALL = {
    "prior": "swiss_roll", "network.hidden": [8], "network.discriminator_hidden": [8],
    "train_aae.init": "scratch", "labels.clusters": 4,
}  # fmt: skip


@pytest.mark.parametrize(
    ("use", "names", "labels"),
    [
        ("none", (), ()),
        ("prior", NAMES, NAMES),
        ("decoder", NAMES, NAMES),
        ("semi-supervised", NAMES, NAMES),
        ("clusters", (), ("0", "1", "2", "3")),
    ],
)
def test_a_trained_model_knows_the_names_of_the_classes(make_params, use, names, labels):
    params = make_params(SMALL | {"labels.use": use})
    digits = Images(make_digits(60), (torch.arange(60) % 3).to(torch.uint8))
    known = known_labels(digits, digits, list(NAMES), params)
    training = adversarial_training(params, digits.images, digits.images, None, known)
    categories = training.model.architecture.categories
    assert categories.names == names
    assert categories.titles == labels


def metadata(path) -> dict:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()[FORMAT])


def test_a_file_has_names_only_if_there_are_any(tmp_path):
    path = tmp_path / "aae.safetensors"
    named = Categories(use="decoder", count=3, names=NAMES)
    save_model(Model(Architecture(**SIZES, categories=named), seed=0), path)
    assert load_model(path).architecture.categories == named
    clusters = Categories(use="clusters", count=3)
    save_model(Model(Architecture(**SIZES, categories=clusters), seed=0), path)
    assert metadata(path)["categories"] == {"use": "clusters", "count": 3, "places": False}
    save_model(Model(Architecture(**SIZES), seed=0), path)
    assert "categories" not in metadata(path)


def test_a_file_with_a_name_too_few_is_refused(tmp_path):
    path = tmp_path / "aae.safetensors"
    named = Categories(use="decoder", count=3, names=NAMES)
    save_model(Model(Architecture(**SIZES, categories=named), seed=0), path)
    damaged = metadata(path)
    damaged["categories"]["names"].pop()
    save_file(load_file(path), path, {FORMAT: json.dumps(damaged)})
    with pytest.raises(ModelError, match="2 names of 3 categories"):
        load_model(path)
