"""Convolutional networks, and the choice between kinds of networks."""

import json

import pytest
import torch
from safetensors.torch import save_file

from aae.models import Architecture, Conv, Mlp, Model, load_model, save_model
from aae.models.checkpoints import FORMAT
from aae.models.conv import Down, Norm, Up, sizes, widths
from aae.params import Posterior

PRIOR = {"name": "gaussian", "distribution": "Normal", "loc": 0.0, "scale": 1.0}
POSTERIORS = {
    "deterministic": Posterior(kind="deterministic", std=None, min_std=0.0),
    "fixed": Posterior(kind="gaussian", std=0.3, min_std=0.0),
    "learnt": Posterior(kind="gaussian", std=None, min_std=0.1),
    "universal": Posterior(kind="universal", std=None, min_std=0.0),
}


def make_model(
    image_shape: tuple[int, int, int],
    posterior: str = "deterministic",
    channels: tuple[int, ...] = (4, 8),
    features: tuple[int, ...] = (),
    seed: int | None = 0,
) -> Model:
    architecture = Architecture(
        image_shape=image_shape, latent_dim=3, prior=PRIOR,
        network=Conv(channels=channels, features=features), units="gaussian",
        posterior=POSTERIORS[posterior],
    )  # fmt: skip
    return Model(architecture, seed)


@pytest.mark.parametrize(
    ("size", "smallest", "layers"),
    [(28, 4, 3), (32, 4, 3), (48, 3, 4), (64, 4, 4), (96, 3, 5), (128, 4, 5), (8, 4, 1), (4, 2, 1)],
)
def test_layers_halve_the_image_down_to_about_four_pixels(size, smallest, layers):
    assert sizes(size, size)[-1] == (smallest, smallest)
    assert len(sizes(size, size)) == layers + 1


def test_the_last_width_counts_for_all_further_layers():
    assert widths((1, 64, 64), [8, 16]) == [8, 16, 16, 16]
    assert widths((1, 16, 16), [8, 16, 32]) == [8, 16]


SHAPES = [(c, size, size) for c in (1, 3) for size in (28, 32, 48, 64, 96, 128)]


@pytest.mark.parametrize("features", [(), (9, 7)], ids=str)
@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("shape", [*SHAPES, (1, 29, 43), (3, 64, 28)], ids=str)
def test_any_image_goes_in_and_comes_out_and_the_gradient_reaches_every_weight(
    shape, posterior, features
):
    model = make_model(shape, posterior, features=features)
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    units = model.encoder(images, model.noise(2, torch.Generator().manual_seed(0)))
    decoded = model.decoder(units)
    assert units.shape == (2, 3)
    assert decoded.shape == images.shape
    assert ((decoded >= 0) & (decoded <= 1)).all()
    weights = dict(model.named_parameters())
    gradients = torch.autograd.grad((decoded - images).square().sum(), list(weights.values()))
    for name, gradient in zip(weights, gradients, strict=True):
        assert (gradient != 0).any(), name


def test_gradients_do_not_depend_on_the_number_of_threads_and_are_torchs_own():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(100, 1, 28, 28, generator=generator).requires_grad_()
    cpu = torch.device("cpu")
    layers = torch.nn.Sequential(Down(1, 32, cpu), Norm(32, cpu), torch.nn.ReLU(), Up(32, 1, cpu))
    with torch.no_grad():
        for weight in layers.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)
    inputs = [images, *layers.parameters()]

    def gradients(threads: int) -> tuple[torch.Tensor, ...]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return torch.autograd.grad((layers(images) - images).square().mean(), inputs)
        finally:
            torch.set_num_threads(before)

    # With one thread the layers are torch's own.
    for one, two, again in zip(*map(gradients, (1, 2, 2)), strict=True):
        assert torch.equal(one, two)
        assert torch.equal(two, again)


def test_last_and_first_layer_at_the_codes_are_linear():
    model = make_model((1, 28, 28))
    assert isinstance(model.encoder.layers[-1], torch.nn.Linear)
    assert isinstance(model.decoder.layers[0], torch.nn.Linear)
    with torch.no_grad():
        model.encoder.layers[-1].weight.zero_()
        model.encoder.layers[-1].bias.fill_(-7)
    assert (model.encoder(torch.rand(2, 1, 28, 28)) == -7).all()


def test_features_are_the_units_of_fully_connected_layers_between_convolutions_and_codes():
    model = make_model((1, 28, 28), features=(9, 7))

    def units(layers: torch.nn.Module) -> list[int]:
        return [layer.out_features for layer in layers if isinstance(layer, torch.nn.Linear)]

    assert units(model.encoder.layers) == [9, 7, 3]
    assert units(model.decoder.layers) == [7, 9, 8 * 4 * 4]


def test_an_image_has_the_same_code_in_every_batch():
    model = make_model((3, 32, 32))
    images = torch.rand(9, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.encode(images)[:1], model.encode(images[:1]))


def test_a_universal_posterior_depends_on_its_noise_and_means_noise_zero():
    model, image = make_model((1, 28, 28), "universal"), torch.rand(1, 1, 28, 28)
    noise = model.noise(200, torch.Generator().manual_seed(0))
    assert model.encode(image.expand(200, -1, -1, -1), noise).std(0).min() > 1e-3
    assert torch.equal(model.encode(image, torch.zeros(1, 3)), model.encode(image))


def test_initial_weights_are_torchs_default_and_come_from_the_seed_alone():
    torch.manual_seed(1)
    first = make_model((3, 32, 32), channels=(64,))
    torch.manual_seed(2)
    again = make_model((3, 32, 32), channels=(64,)).state_dict()
    other = make_model((3, 32, 32), channels=(64,), seed=1).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.state_dict().items())
    assert not torch.equal(first.encoder.layers[0].weight, other["encoder.layers.0.weight"])
    drawn = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    layers = [layer for layer in first.modules() if isinstance(layer, drawn)]
    assert len(layers) == 8
    for layer in layers:
        own = {name: value.detach().clone() for name, value in layer.named_parameters()}
        layer.reset_parameters()
        for name, value in layer.named_parameters():
            if value.numel() > 500:
                assert own[name].std().item() == pytest.approx(value.std().item(), rel=0.1)
                assert own[name].abs().max() <= 1.01 * value.abs().max()


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_a_model_reads_back_equal(tmp_path, posterior):
    model = make_model((3, 28, 20), posterior)
    save_model(model, tmp_path / "model")
    read, images = load_model(tmp_path / "model"), torch.rand(2, 3, 28, 20)
    assert read.architecture == model.architecture
    assert torch.equal(read.decode(read.encode(images)), model.decode(model.encode(images)))


def test_convolutions_whose_file_names_no_fully_connected_layers_have_none(tmp_path):
    model = make_model((3, 28, 20))
    architecture = json.loads(model.architecture.model_dump_json())
    del architecture["network"]["features"]
    save_file(model.state_dict(), tmp_path / "old", {FORMAT: json.dumps(architecture)})
    images = torch.rand(2, 3, 28, 20)
    assert torch.equal(load_model(tmp_path / "old").encode(images), model.encode(images))


def test_hidden_alone_means_an_mlp():
    short = Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,))
    assert short.network == Mlp(hidden=(8,))
    long = Architecture(image_shape=(1, 4, 4), latent_dim=2, network=Mlp(hidden=(8,)))
    assert short == long
    with pytest.raises(ValueError, match="hidden"):
        Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,), network=Mlp(hidden=(8,)))


def test_a_file_from_before_there_were_kinds_still_loads(tmp_path):
    """Its metadata have the hidden layers at the top; names and order of the weights are these."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "encoder.layers.0": (8, 16), "encoder.layers.2": (2, 8),
        "decoder.layers.0": (8, 2), "decoder.layers.2": (16, 8),
    }  # fmt: skip
    weights = {"units.mean": torch.zeros(2), "units.factor": torch.eye(2)}
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = torch.randn(*shape, generator=generator)
        weights[f"{name}.bias"] = torch.randn(shape[0], generator=generator)
    old = {
        "image_shape": [1, 4, 4], "latent_dim": 2, "hidden": [8], "discriminator_hidden": None,
        "prior": None, "units": "codes",
        "posterior": {"kind": "deterministic", "std": None, "min_std": 0.0},
    }  # fmt: skip
    save_file(weights, tmp_path / "old", {FORMAT: json.dumps(old)})
    model = load_model(tmp_path / "old")
    found = model.state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in found.items())

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    images = torch.rand(5, 1, 4, 4, generator=generator)
    codes = linear(linear(images.flatten(1), "encoder.layers.0").relu(), "encoder.layers.2")
    torch.testing.assert_close(model.encode(images), codes)
    pixels = linear(linear(codes, "decoder.layers.0").relu(), "decoder.layers.2").sigmoid()
    torch.testing.assert_close(model.decode(codes), pixels.view(5, 1, 4, 4))
    expected = Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,))
    assert model.architecture == expected
