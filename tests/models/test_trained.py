"""The trained model in the user's hands."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from support import SIZES, STOCHASTIC, learnt_model, make_digits

import aae
from aae.errors import AAEError, DataError, ModelError, TrackingError
from aae.models import Architecture, Model, TrainedModel, networks, save_model

DIGITS = make_digits(60)


@pytest.fixture(scope="module")
def trained() -> TrainedModel:
    return TrainedModel(learnt_model(DIGITS))


@pytest.fixture(scope="module")
def colour() -> TrainedModel:
    return TrainedModel(Model(Architecture(**SIZES | {"image_shape": (3, 4, 6)}), seed=0))


@pytest.fixture
def pictures(tmp_path) -> list:
    """The first three digits as picture files."""
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, image in zip(paths, DIGITS, strict=False):
        Image.fromarray(image[0].numpy()).save(path)
    return paths


def test_a_model_file_is_loaded_with_all_that_it_can_do(tmp_path):
    model = Model(Architecture(**STOCHASTIC), seed=0)
    save_model(model, tmp_path / "aae.safetensors")
    for path in (tmp_path / "aae.safetensors", str(tmp_path / "aae.safetensors")):
        loaded = aae.load(path)
        assert isinstance(loaded, aae.TrainedModel)
        assert (loaded.image_shape, loaded.latent_dim) == ((1, 4, 4), 2)
        torch.testing.assert_close(loaded.encode(DIGITS), model.encode(DIGITS))
        assert loaded.prior.distribution.concentration == 2


def test_all_forms_of_images_have_the_same_codes(trained, pictures):
    three = DIGITS[:3]
    expected = trained.model.encode(three)
    forms = [
        three, three.numpy(), three / 255, (three / 255).double().numpy(), three[:, 0],
        np.asfortranarray(three.numpy())[:, :, ::-1][:, :, ::-1],
        (three / 255).numpy().astype(">f4"), pictures, [str(path) for path in pictures],
        tuple(pictures),
    ]  # fmt: skip
    for form in forms:
        torch.testing.assert_close(trained.encode(form), expected)
    for form in (three[0], three[0, 0], three[:1], pictures[0], str(pictures[0])):
        torch.testing.assert_close(trained.encode(form), expected[:1])
    read_only = three.numpy().copy()
    read_only.flags.writeable = False
    torch.testing.assert_close(trained.encode(read_only), expected)


def test_a_single_colour_image_is_an_image(colour):
    image = torch.rand(3, 4, 6)
    torch.testing.assert_close(colour.encode(image), colour.encode(image[None]))


def test_pictures_of_any_size_and_mode_are_prepared_for_the_model(trained, colour, tmp_path):
    image = np.zeros((40, 120, 3), np.uint8)
    image[:, 10:110] = 200, 100, 50  # also what the filter sees beside the crop
    Image.fromarray(image).save(tmp_path / "wide.png")
    grey = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    expected = torch.full((1, 4, 4), grey, dtype=torch.uint8)
    assert torch.equal(trained.read(tmp_path / "wide.png"), expected)
    codes = trained.encode(tmp_path / "wide.png")
    torch.testing.assert_close(codes, trained.encode(expected))
    Image.fromarray(image[:, :, 0]).save(tmp_path / "grey.jpg")
    assert colour.encode([tmp_path / "grey.jpg", tmp_path / "wide.png"]).shape == (2, 2)


def test_codes_and_images_belong_to_each_other(trained):
    codes = trained.encode(DIGITS)
    images = trained.decode(codes)
    assert images.shape == (60, 1, 4, 4)
    assert images.dtype == torch.float32
    torch.testing.assert_close(trained.reconstruct(DIGITS), images)
    for same in (codes.numpy(), codes.double(), codes.tolist()):
        given = np.array(same) if isinstance(same, list) else same
        torch.testing.assert_close(trained.decode(given), images)
    torch.testing.assert_close(trained.decode(codes[0]), images[:1])
    assert (images - DIGITS / 255).square().mean() < 0.02


def test_codes_are_the_means_of_the_posteriors():
    model = Model(Architecture(**STOCHASTIC), seed=0)
    trained = TrainedModel(model)
    assert torch.equal(trained.encode(DIGITS), trained.encode(DIGITS))
    units = model.encoder(DIGITS / 255).detach()
    torch.testing.assert_close(trained.encode(DIGITS), model.units.to_codes(units))


def test_samples_are_decoded_from_the_prior(trained):
    first = trained.sample(500)
    assert first.shape == (500, 1, 4, 4)
    assert torch.equal(first, trained.sample(500, seed=0))
    assert not torch.equal(first, trained.sample(500, seed=1))
    codes = 5 * torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    assert (first.mean() - trained.decode(codes).mean()).abs() < 0.03
    assert trained.sample(0).shape == (0, 1, 4, 4)


def test_a_path_leads_from_one_image_to_the_other(trained):
    a, b = DIGITS[:4], DIGITS[4:8]
    paths = trained.interpolate(a, b, 5)
    assert paths.shape == (4, 5, 1, 4, 4)
    torch.testing.assert_close(paths[:, 0], trained.reconstruct(a))
    torch.testing.assert_close(paths[:, -1], trained.reconstruct(b))
    middle = trained.decode((trained.encode(a) + trained.encode(b)) / 2)
    torch.testing.assert_close(paths[:, 2], middle)
    torch.testing.assert_close(trained.interpolate(a[0], b, 2)[:, 1], trained.reconstruct(b))


def test_a_broken_image_has_a_higher_score(trained):
    broken = DIGITS.clone()
    broken[:, :, 2:] = 255 - broken[:, :, 2:]
    right, wrong = trained.score(DIGITS), trained.score(broken)
    assert right.reconstruction_error.max() < wrong.reconstruction_error.min()
    found = (trained.reconstruct(DIGITS) - DIGITS / 255).square().flatten(1).mean(1)
    torch.testing.assert_close(right.reconstruction_error, found)
    torch.testing.assert_close(trained.score(DIGITS / 255).reconstruction_error, found)


def test_typicality_is_that_of_the_code_in_the_prior(trained):
    codes = trained.encode(DIGITS)
    # In two dimensions, this share of a Gaussian is farther out than r standard deviations.
    expected = (-codes.square().sum(1) / (2 * 5**2)).exp()
    torch.testing.assert_close(trained.score(DIGITS).typicality, expected, atol=0.02, rtol=0)


def test_a_plain_autoencoder_has_no_samples_and_no_typicality():
    plain = TrainedModel(Model(Architecture(**SIZES | {"discriminator_hidden": None}), seed=0))
    scores = plain.score(DIGITS)
    assert scores.reconstruction_error.isfinite().all()
    assert scores.typicality.isnan().all()
    with pytest.raises(ModelError, match="the model has no prior to draw samples from"):
        plain.sample(3)


def test_no_images_give_no_results(trained):
    assert trained.encode(DIGITS[:0]).shape == (0, 2)
    assert trained.encode([]).shape == (0, 2)
    assert trained.decode(torch.empty(0, 2)).shape == (0, 1, 4, 4)
    assert trained.reconstruct(DIGITS[:0]).shape == (0, 1, 4, 4)
    assert trained.score(DIGITS[:0]).typicality.shape == (0,)


def test_many_images_pass_in_batches(trained, monkeypatch):
    # Of the same batches: in others, the last digit of a code may differ.
    expected = [
        torch.cat(parts) for parts in zip(*map(trained.score, DIGITS.split(7)), strict=True)
    ]
    sizes = []
    decode = trained.model.decode
    monkeypatch.setattr("aae.models.trained.CHUNK", 7)
    monkeypatch.setattr(trained.model, "decode", lambda z, y: sizes.append(len(z)) or decode(z, y))
    assert all(map(torch.equal, trained.score(DIGITS), expected))
    assert sum(sizes) == 60
    assert max(sizes) == 7
    assert networks.CHUNK >= 7


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(5, 4, 4, 1), "images of shape (5, 4, 4, 1); (N, 1, 4, 4) is needed"),
        (torch.zeros(2, 3, 4, 4), "images of shape (2, 3, 4, 4); (N, 1, 4, 4) is needed"),
        (np.zeros(16), "images of shape (16,); (N, 1, 4, 4) is needed"),
        (np.zeros((1, 4, 5)), "images of shape (1, 4, 5); (N, 1, 4, 4) is needed"),
        (torch.full((1, 4, 4), 255.0), "images are floats from 255 to 255; floats from 0 to 1 or"),
        (torch.full((1, 4, 4), -0.5), "images are floats from -0.5 to -0.5; floats from 0 to 1 or"),
        (torch.full((1, 4, 4), torch.nan), "images hold NaN or infinite values; floats from 0"),
        (torch.full((1, 4, 4), torch.inf), "images hold NaN or infinite values; floats from 0"),
        (np.zeros((1, 4, 4), np.int64), "images are torch.int64; uint8 from 0 to 255 or floats"),
        (np.zeros((1, 4, 4), bool), "images are torch.bool; uint8 from 0 to 255 or floats"),
        (np.full((1, 4, 4), "x"), "images are an array of <U1; numbers are needed"),
        (5, "images are a int; a tensor or an array is needed"),
        ([[0.0]], "a list with a list; a list of paths of picture files is needed, or one array"),
        ("nowhere.png", "nowhere.png: No such file or directory"),
    ],
)
def test_wrong_images_are_refused_in_one_line(trained, images, message):
    for method in (trained.encode, trained.reconstruct, trained.score):
        with pytest.raises(DataError, match=re.escape(message)) as error:
            method(images)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(5, 3), "codes of shape (5, 3); (N, 2) is needed"),
        (np.zeros((1, 1, 2)), "codes of shape (1, 1, 2); (N, 2) is needed"),
        (torch.tensor(0.0), "codes of shape (); (N, 2) is needed"),
        (torch.full((1, 2), torch.nan), "codes hold NaN or infinite values"),
        (torch.full((1, 2), 1e300, dtype=torch.double), "codes hold NaN or infinite values"),
        (torch.zeros(1, 2, dtype=torch.complex64), "codes are torch.complex64; floats are needed"),
        ([[0.0, 0.0]], "codes are a list; a tensor or an array is needed"),
    ],
)
def test_wrong_codes_are_refused_in_one_line(trained, codes, message):
    with pytest.raises(DataError, match=re.escape(message)):
        trained.decode(codes)


def test_wrong_paths_numbers_and_devices_are_refused_in_one_line(trained, colour, tmp_path):
    with pytest.raises(DataError, match="4 images to start from and 3 to lead to"):
        trained.interpolate(DIGITS[:4], DIGITS[:3], 5)
    with pytest.raises(DataError, match="steps: 1 images on a path; 2 or more are needed"):
        trained.interpolate(DIGITS[0], DIGITS[1], 1)
    with pytest.raises(ModelError, match="n: -1 samples"):
        trained.sample(-1)
    with pytest.raises(DataError, match=re.escape("(5, 4, 4); (N, 3, 4, 6) is needed")):
        colour.encode(torch.zeros(5, 4, 4))
    path = tmp_path / "ae.safetensors"
    save_model(colour.model, path)
    missing = ["gpu", "cuda:99"] if torch.cuda.is_available() else ["gpu", "cuda"]
    for device in missing:
        with pytest.raises(ModelError, match=f"device: '{device}' cannot be used: ") as error:
            aae.load(path, device=device)
        assert "\n" not in str(error.value)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken.png: it is not a picture"):
        colour.encode(tmp_path / "broken.png")
    with pytest.raises(ModelError, match="nowhere"):
        aae.load("nowhere.safetensors")
    four = TrainedModel(Model(Architecture(**SIZES | {"image_shape": (4, 4, 4)}), seed=0))
    with pytest.raises(DataError, match="pictures have 1 or 3 channels, and the model's images 4"):
        four.encode(tmp_path / "broken.png")


@pytest.mark.parametrize("address", ["models:/m-1", "runs:/1/decoder"])
def test_without_a_store_an_address_is_refused(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingError, match="there is no MLflow database"):
        aae.load(address)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(AAEError, match="is not models:/ID"):
        aae.load("runs:/1")


def test_a_served_model_needs_only_the_packages_that_are_logged_with_it():
    from aae.tracking.store import MODEL_REQUIREMENTS

    program = (
        "import sys, aae.models.serving; print(*{name.partition('.')[0] for name in sys.modules})"
    )
    known = {name.partition(".")[0] for name in MODEL_REQUIREMENTS}
    needed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    others = {
        "PIL",
        "joblib",
        "filelock",
        "ruamel",
        "scipy",
        "sklearn",
        "matplotlib",
        "torchvision",
    }
    assert set(needed) & others <= known
