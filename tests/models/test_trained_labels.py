"""Classes and clusters of a trained model."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from support import SIZES, make_digits

from aae.errors import DataError, ModelError
from aae.models import Architecture, Model, TrainedModel, load_model, save_model

DIGITS = make_digits(20)
NAMES = ["cat", "dog", "ship"]
NUMBERS = torch.arange(20) % 3
PRIOR = {"name": "gaussian", "distribution": "Normal", "loc": 0.0, "scale": 5.0}
ROLL = {"name": "roll", "distribution": "SwissRoll", "turns": 1.5, "radius": 10.0, "noise": 0.01}
FINDS = ["semi-supervised", "clusters"]  # the encoder finds the category
TAKES = ["decoder", *FINDS]  # the decoder takes it


def make(use: str, **changes) -> TrainedModel:
    names = {} if use == "clusters" else {"names": NAMES}
    categories = {"use": use, "count": 3, **names}
    sizes = SIZES | {"prior": PRIOR, "categories": categories} | changes
    return TrainedModel(Model(Architecture(**sizes), seed=0))


def one_hot(numbers: torch.Tensor) -> torch.Tensor:
    return torch.eye(3)[numbers]


@pytest.mark.parametrize("use", FINDS)
def test_images_have_probabilities_of_classes(use, tmp_path):
    trained = make(use)
    found = trained.classify(DIGITS)
    outputs = trained.model.encoder.layers((DIGITS / 255).flatten(1))
    torch.testing.assert_close(found, outputs[:, 2:].softmax(1))
    torch.testing.assert_close(trained.classify((DIGITS / 255).numpy()), found)
    Image.fromarray(DIGITS[1, 0].numpy()).save(tmp_path / "one.png")
    torch.testing.assert_close(trained.classify(tmp_path / "one.png"), found[1:2])
    assert trained.classify([]).shape == (0, 3)
    save_model(trained.model, tmp_path / "aae.safetensors")
    loaded = TrainedModel(load_model(tmp_path / "aae.safetensors"))
    assert loaded.class_names == (tuple(NAMES) if use == "semi-supervised" else ("0", "1", "2"))
    torch.testing.assert_close(loaded.classify(DIGITS), found)


@pytest.mark.parametrize("use", ["none", "prior", "decoder"])
def test_a_model_that_finds_no_class_says_which_does(use):
    with pytest.raises(ModelError, match=r"trained with labels.use: semi-supervised or clusters"):
        make(use).classify(DIGITS)


@pytest.mark.parametrize("use", TAKES)
def test_all_forms_of_labels_decode_to_the_same_images(use):
    trained, codes = make(use), torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    expected = trained.model.decoder(codes, one_hot(NUMBERS)).detach()
    names = [trained.class_names[k] for k in NUMBERS]
    forms = [
        NUMBERS, NUMBERS.numpy(), NUMBERS.tolist(), NUMBERS.byte(), NUMBERS.int(), names,
        tuple(names), np.array(names), np.array(names, object), one_hot(NUMBERS),
        one_hot(NUMBERS).double().numpy(), one_hot(NUMBERS).half(),
    ]  # fmt: skip
    for form in forms:
        torch.testing.assert_close(trained.decode(codes, form), expected)
    for k, name in enumerate(trained.class_names):
        for single in (k, name, np.int64(k), torch.tensor(k)):
            found, same = trained.decode(codes, single), NUMBERS.eq(k)
            torch.testing.assert_close(found[same], expected[same])
            assert (found - expected)[~same].abs().flatten(1).amax(1).min() > 1e-3
    mixed = torch.tensor([[0.5, 0.2, 0.3]])
    torch.testing.assert_close(
        trained.decode(codes[0], mixed), trained.model.decoder(codes[:1], mixed).detach()
    )
    assert trained.decode(codes[:0], []).shape == (0, 1, 4, 4)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("dgo", "labels: 'dgo' is not a category; did you mean 'dog'? (choices: cat, dog, ship)"),
        ("1", "labels: '1' is not a category (choices: cat, dog, ship)"),
        (["cat", "", "dog"], "labels: '' is not a category"),
        (["cat", None, "dog"], "labels: None is not a category"),
        (3, "labels: 3 is not the number of a category; there are 3: cat, dog, ship"),
        ([0, -1, 2], "labels: -1 is not the number of a category"),
        ([0, 1], "of shape (2,); 3 names or numbers of categories, a single one, or probabilities"),
        (["cat", "dog"], "of shape (2,); 3 names or numbers of categories"),
        ([0.0, 1.0, 2.0], "labels are torch.float64 of shape (3,); 3 names or numbers"),
        (True, "labels are torch.bool of shape (3,)"),
        (torch.ones(3, 4) / 4, "of shape (3, 4); 3 names or numbers of categories, a single one"),
        (torch.ones(3, 3), "labels are not probabilities, from 0 to 1 with the sum 1"),
        (torch.tensor([[2.0, -1.0, 0.0]] * 3), "labels are not probabilities"),
        (torch.full((3, 3), torch.nan), "labels are not probabilities"),
        ([["cat"], ["cat", "dog"]], "labels are not an array: "),
    ],
)
def test_wrong_labels_are_refused_in_one_line(labels, message):
    trained = make("decoder")
    for attempt in (
        lambda: trained.decode(torch.zeros(3, 2), labels),
        lambda: trained.reconstruct(DIGITS[:3], labels),
        lambda: trained.score(DIGITS[:3], labels),
        lambda: trained.interpolate(DIGITS[:3], DIGITS[3:6], 2, labels),
        lambda: trained.sample(3, labels=labels),
    ):
        with pytest.raises(DataError, match=re.escape(message)) as error:
            attempt()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("use", ["none", "prior", *TAKES])
def test_labels_are_needed_or_refused_as_the_networks_have_it(use):
    trained = make(use)
    codes = trained.encode(DIGITS)
    if use in TAKES:
        message = f"labels are needed, because the decoder takes classes: {trained.class_names[0]},"
        with pytest.raises(DataError, match=message):
            trained.decode(codes)
        return
    refused = "labels are given, but the model's decoder takes only codes"
    with pytest.raises(DataError, match=refused):
        trained.decode(codes, 0)
    with pytest.raises(DataError, match=refused):
        trained.reconstruct(DIGITS, 0)
    assert trained.decode(codes).shape == trained.sample(20).shape


def test_what_the_encoder_does_not_find_must_be_given():
    trained = make("decoder")
    for attempt in (
        lambda: trained.reconstruct(DIGITS),
        lambda: trained.score(DIGITS),
        lambda: trained.interpolate(DIGITS, DIGITS, 2),
    ):
        with pytest.raises(DataError, match="labels are needed, because the decoder takes classes"):
            attempt()
    expected = trained.decode(trained.encode(DIGITS), NUMBERS)
    torch.testing.assert_close(trained.reconstruct(DIGITS, NUMBERS), expected)


@pytest.mark.parametrize("use", FINDS)
def test_reconstructions_have_the_class_that_the_encoder_finds_or_another(use):
    trained = make(use)
    codes, found = trained.encode(DIGITS), trained.classify(DIGITS)
    expected = trained.decode(codes, found)
    torch.testing.assert_close(trained.reconstruct(DIGITS), expected)
    error = (expected - DIGITS / 255).square().flatten(1).mean(1)
    torch.testing.assert_close(trained.score(DIGITS).reconstruction_error, error)
    other = trained.decode(codes, NUMBERS)
    torch.testing.assert_close(trained.reconstruct(DIGITS, NUMBERS), other)
    assert not torch.allclose(expected, other)
    error = (other - DIGITS / 255).square().flatten(1).mean(1)
    scores = trained.score(DIGITS, NUMBERS)
    torch.testing.assert_close(scores.reconstruction_error, error)
    torch.testing.assert_close(scores.typicality, trained.prior.typicality(codes))


def test_each_image_keeps_its_label_in_batches(monkeypatch, tmp_path):
    trained = make("decoder")
    expected = trained.reconstruct(DIGITS, NUMBERS)
    errors = trained.score(DIGITS, NUMBERS).reconstruction_error
    monkeypatch.setattr("aae.models.trained.CHUNK", 7)
    monkeypatch.setattr("aae.data.pictures.CHUNK", 3)
    torch.testing.assert_close(trained.reconstruct(DIGITS, NUMBERS), expected)
    torch.testing.assert_close(trained.reconstruct(DIGITS, one_hot(NUMBERS)), expected)
    paths = [tmp_path / f"{i}.png" for i in range(8)]
    for path, image in zip(paths, DIGITS, strict=False):
        Image.fromarray(image[0].numpy()).save(path)
    found = trained.score(paths, NUMBERS[:8]).reconstruction_error
    torch.testing.assert_close(found, errors[:8])


def test_a_path_leads_from_class_to_class_or_keeps_the_one_that_is_given():
    trained = make("semi-supervised")
    a, b = DIGITS[:3], DIGITS[3:6]
    paths = trained.interpolate(a, b, 3)
    torch.testing.assert_close(paths[:, 0], trained.reconstruct(a))
    torch.testing.assert_close(paths[:, 2], trained.reconstruct(b))
    middle = (trained.encode(a) + trained.encode(b)) / 2
    between = (trained.classify(a) + trained.classify(b)) / 2
    torch.testing.assert_close(paths[:, 1], trained.decode(middle, between))
    paths = trained.interpolate(a, b[0], 3, ["cat", "dog", "ship"])
    torch.testing.assert_close(paths[:, 0], trained.reconstruct(a, [0, 1, 2]))
    torch.testing.assert_close(paths[:, 2], trained.reconstruct(b[[0, 0, 0]], [0, 1, 2]))


def test_the_style_is_the_code():
    for use in TAKES:
        trained = make(use)
        assert torch.equal(trained.style(DIGITS), trained.encode(DIGITS))


@pytest.mark.parametrize("use", TAKES)
def test_samples_have_the_classes_of_their_prior_or_those_that_are_given(use):
    trained = make(use)
    cats, dogs = trained.sample(300, 1, 0), trained.sample(300, 1, trained.class_names[1])
    either = trained.sample(300, 1)
    assert torch.equal(either, trained.sample(300, 1))
    ships = trained.sample(300, 1, 2)
    distances = [(either - images).abs().flatten(1).amax(1) for images in (cats, dogs, ships)]
    nearest, drawn = torch.stack(distances).min(0)
    assert nearest.max() < 1e-5, "only the class differs, and not the style"
    assert torch.bincount(drawn).min() > 70
    mixed = trained.sample(300, 1, torch.arange(300) % 2)
    torch.testing.assert_close(mixed[::2], cats[::2])
    torch.testing.assert_close(mixed[1::2], dogs[1::2])


def test_samples_of_a_class_are_from_its_part_of_the_prior(monkeypatch):
    trained, drawn = make("prior", prior=ROLL), []
    monkeypatch.setattr(trained.model, "decode", lambda codes, _: drawn.append(codes) or codes)
    trained.sample(300, labels=np.repeat(NAMES, 100))
    lengths = drawn[0].norm(dim=1).unflatten(0, (3, 100))  # they grow along the roll
    assert (lengths[:-1].amax(1) < lengths[1:].amin(1) + 0.1).all()
    assert (lengths.mean(1).diff() > 1).all()
    trained.sample(300)
    assert len(drawn[1]) == 300
    with pytest.raises(DataError, match="each sample is from the part of one class"):
        trained.sample(3, labels=torch.eye(3))
    with pytest.raises(DataError, match="labels are given, but the model's decoder takes only"):
        make("none").sample(3, labels=0)
