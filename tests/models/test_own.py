"""A user's own networks."""

import re
import sys

import pytest
import torch
from support import ROOT, SIZES, make_digits

from aae.cli import main
from aae.errors import ModelError, ParameterError
from aae.models import Architecture, Model, Own, load_model, save_model
from aae.models.kinds import check_kind
from aae.params import Posterior
from aae.priors import chosen_prior
from aae.training import adversarial_training, autoencoder_training
from aae.training.warm_start import initialise

PAGE = (ROOT / "docs" / "networks.md").read_text()
EXAMPLE = re.search("```python\n(.*?)```", PAGE, re.DOTALL)[1]
GAMMA = {"name": "gamma", "distribution": "Gamma", "concentration": 2.0, "rate": 1.0}
POSTERIORS = [
    Posterior(kind="deterministic", std=None, min_std=0.0),
    Posterior(kind="gaussian", std=0.6, min_std=0.0),
    Posterior(kind="gaussian", std=None, min_std=0.1),
    Posterior(kind="universal", std=None, min_std=0.0),
]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that writes a module of the user and returns the name of its `make`."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def write(text: str = EXAMPLE) -> str:
        names.append(f"own_networks_{len(names)}")
        (tmp_path / f"{names[-1]}.py").write_text(text)
        return f"{names[-1]}.make"

    yield write
    for name in names:
        sys.modules.pop(name, None)


def make_model(name: str, seed: int | None = 0, **more) -> Model:
    sizes = {key: size for key, size in SIZES.items() if key != "hidden"}
    return Model(Architecture(**sizes, network=Own(kind=name), **more), seed)


def test_the_example_of_the_documentation_trains(own, make_params):
    name, images = own(), make_digits(300)
    params = make_params({
        "network.kind": name, "train_ae.epochs": 10, "train_ae.batch_size": 20,
        "train_aae.epochs": 2, "network.discriminator_hidden": [16],
    })  # fmt: skip
    training = autoencoder_training(params, images[:200], images[200:])
    first, *_, last = training.epochs()
    loss = "validation_reconstruction_loss"
    assert last[loss] < 0.7 * first[loss]
    second = adversarial_training(params, images[:200], images[200:], training.averaged)
    assert len(list(second.epochs())) == 2


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_a_warm_start_keeps_the_reconstructions(own, make_params, digits, posterior):
    name = own()
    autoencoder = make_model(name, seed=1)
    model = make_model(name, prior=GAMMA, units="gaussian", posterior=posterior)
    before = autoencoder.decode(autoencoder.encode(digits))
    initialise(model, chosen_prior(make_params({"prior": "gamma"})), autoencoder, digits)
    units = model.units.to_units(model.encode(digits))
    torch.testing.assert_close(units.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(model.decode(model.encode(digits)), before, atol=1e-4, rtol=0)


def test_initial_weights_come_from_the_seed_alone(own):
    name = own()
    torch.manual_seed(5)
    first = make_model(name).state_dict()
    torch.manual_seed(6)
    again, other = make_model(name).state_dict(), make_model(name, seed=1).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    weight = "encoder.layers.0.0.weight"
    assert not torch.equal(first[weight], other[weight])


def test_a_file_is_refused_unless_its_function_is_named_and_nothing_is_imported(own, tmp_path):
    name = own()
    module = name.partition(".")[0]
    model, path = make_model(name, prior=GAMMA), tmp_path / "model"
    save_model(model, path)
    for given in (None, "mlp", "os.system"):
        sys.modules.pop(module)
        with pytest.raises(ModelError) as error:
            load_model(path, own=given)
        assert f"made by the function {name}, which is not imported" in str(error.value)
        assert f"load_model(path, own='{name}'), network.kind: {name} in" in str(error.value)
        assert module not in sys.modules
        sys.modules[module] = None
    sys.modules.pop(module)
    read, images = load_model(path, own=name), make_digits(5)
    assert torch.equal(read.decode(read.encode(images)), model.decode(model.encode(images)))
    sample = ["sample", "--grid", "-o", str(tmp_path / "grid.png"), "--model", str(path)]
    with pytest.raises(SystemExit, match=f"--own {name}"):
        main(sample)
    with pytest.raises(SystemExit, match="0"):
        main([*sample, "--own", name])
    assert (tmp_path / "grid.png").exists()


def changed(old: str, new: str) -> str:
    assert old in EXAMPLE
    return EXAMPLE.replace(old, new)


ERRORS = {
    "a syntax error": ("def make(:", "cannot be imported: SyntaxError: invalid syntax"),
    "an error at its import": ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
    "no such function": ("", "cannot be imported: AttributeError: module"),
    "something else": ("make = 3", "is int, not a function"),
    "another signature": ("def make(): ...", "fails: TypeError: make() takes 0 position"),
    "an error": (changed("    return", "    1 / 0\n    return"), "fails: ZeroDivisionError: divis"),
    "one module": (changed("return encoder, decoder", "return encoder"), "must return two"),
    "no modules": (changed("encoder, decoder\n", "3, 4\n"), "must return two torch.nn.Module"),
    "an encoder that fails": (
        changed("channels + noise, 16", "channels + 1, 16"),
        "its encoder fails: RuntimeError: Given groups=1",
    ),
    "features that are images": (
        changed("        nn.Flatten(),\n", ""),
        "its encoder turns images [N, 1, 4, 4] into [N, 16, 2, 2]; [N, number of features] is exp",
    ),
    "pixels that are no images": (
        changed("        nn.Unflatten(1, image_shape),\n", ""),
        "its decoder turns units [N, 2] into [N, 16]; [N, 1, 4, 4] is expected",
    ),
    "values beyond 1": (
        changed("nn.Sigmoid()", "nn.Hardtanh(-2, 2)"), "its decoder returns values from -",
    ),
    "values that are not finite": (
        changed("    return", "    nn.init.constant_(encoder[0].bias, float('nan'))\n    return"),
        "its encoder returns values that are not finite",
    ),
    "dropout": (
        changed("nn.Flatten()", "nn.Flatten(), nn.Dropout()"),
        "its encoder returns other values each time, as dropout does",
    ),
    "batch normalisation": (
        changed("nn.GELU(),\n        nn.Flatten(),", "nn.BatchNorm2d(16), nn.Flatten(),"),
        "its encoder has 1.running_mean, which is no weight of one layer alone",
    ),
    "an unused weight": (
        changed("    return", "    encoder[1].spare = nn.Linear(1, 1).bias\n    return"),
        "its encoder does not use the weight 1.spare",
    ),
    "double precision": (
        changed("encoder, decoder\n", "encoder.double(), decoder\n"),
        "its encoder has 0.weight in torch.float64 on cpu; torch.float32 on the CPU is expected",
    ),
    "shared weights": (
        changed("    return", "    decoder[0].bias = decoder[2].bias\n    return"), "its decoder h",
    ),
    "no tensor": (changed("nn.Flatten()", "nn.AdaptiveMaxPool2d(1, True)"), "its encoder fails: "),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), ERRORS.values(), ids=ERRORS)
def test_what_is_wrong_with_them_is_said_in_one_line(own, text, message):
    name = own(text)
    with pytest.raises(ParameterError) as error:
        make_model(name)
    assert str(error.value).startswith(f"network.kind: {name}: {message}")
    assert "\n" not in str(error.value)


def test_networks_that_keep_an_output_train(own, make_params, digits):
    kept = """
from torch import nn

class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 8)

    def forward(self, images):
        self.features = self.layer(images.flatten(1))
        return self.features

def make(image_shape, noise, units):
    images = nn.Sequential(nn.Sigmoid(), nn.Unflatten(1, image_shape))
    return Encoder(), nn.Sequential(nn.Linear(units, 16), images)
"""
    training = autoencoder_training(make_params({"network.kind": own(kept)}), digits, digits)
    assert torch.isfinite(training.averaged.encode(digits)).all()


def test_with_shares_they_cannot_start_from_an_autoencoder(own, make_params):
    shares = {"distribution": "Dirichlet", "concentration": [1.0, 2.0]}
    changes = {"network.kind": own(EXAMPLE), "prior": "shares", "priors.shares": shares}
    check_kind(make_params(changes | {"train_aae.init": "scratch"}))
    message = "train_aae.init: with prior: shares, codes of 2 dimensions have 1 unit, for which"
    with pytest.raises(ParameterError, match=message):
        check_kind(make_params(changes | {"train_aae.init": "ae"}))


def test_networks_that_share_weights_are_refused(own):
    shared = """
from torch import nn

def make(image_shape, noise, units):
    linear = nn.Linear(16, 16)
    encoder = nn.Sequential(nn.Flatten(), linear)
    images = nn.Sequential(nn.Sigmoid(), nn.Unflatten(1, image_shape))
    return encoder, nn.Sequential(nn.Linear(units, 16), linear, images)
"""
    with pytest.raises(ParameterError, match="encoder and decoder share weights"):
        make_model(own(shared))


def test_a_warm_start_from_other_weights_is_refused(own, make_params, digits):
    name = own(changed("200", "(100 if noise else 200)"))
    autoencoder = make_model(name, seed=1)
    model = make_model(name, prior=GAMMA, units="gaussian", posterior=POSTERIORS[-1])
    with pytest.raises(ParameterError, match=r"train_aae.init: 'ae' needs .* use 'scratch'"):
        initialise(model, chosen_prior(make_params({"prior": "gamma"})), autoencoder, digits)
