import math

import pytest
import torch

from aae.models import Architecture, Model
from aae.models.networks import CHUNK, pixels, rescale_codes

ARTICLE = Architecture(
    image_shape=(1, 28, 28), latent_dim=2, hidden=(1000, 1000), discriminator_hidden=(1000, 1000)
)


def small(latent_dim: int = 3) -> Model:
    architecture = Architecture(
        image_shape=(1, 4, 4), latent_dim=latent_dim, hidden=(8, 6), discriminator_hidden=(5,)
    )
    return Model(architecture, seed=0)


def test_the_default_networks_are_the_articles():
    model = Model(ARTICLE, seed=0)

    def shapes(network: torch.nn.Module) -> list[tuple[int, ...]]:
        return [tuple(p.shape) for p in network.parameters() if p.ndim == 2]

    assert shapes(model.encoder) == [(1000, 784), (1000, 1000), (2, 1000)]
    assert shapes(model.decoder) == [(1000, 2), (1000, 1000), (784, 1000)]
    assert shapes(model.discriminator) == [(1000, 2), (1000, 1000), (1, 1000)]


@pytest.mark.parametrize("latent_dim", [1, 2, 7])
def test_shapes_and_ranges(digits, latent_dim):
    model = small(latent_dim)
    codes = model.encoder(pixels(digits))
    images = model.decoder(codes * 1000)
    assert codes.shape == (60, latent_dim)
    assert images.shape == digits.shape
    assert images.min() >= 0
    assert images.max() <= 1
    assert model.discriminator(codes).shape == (60,)


def test_codes_and_logits_are_linear_and_unbounded(digits):
    """The last layers have no activation: doubled weights give doubled outputs."""
    model = small()
    for network, inputs in ((model.encoder, pixels(digits)), (model.discriminator, torch.eye(3))):
        last = network.layers[-1]
        before = network(inputs)
        with torch.no_grad():
            last.weight *= 2
            last.bias *= 2
        torch.testing.assert_close(network(inputs), 2 * before)


def test_initial_weights_are_torchs_default_and_come_from_the_seed_alone():
    torch.manual_seed(1)
    first = Model(ARTICLE, seed=0).state_dict()
    torch.manual_seed(2)
    again, other = Model(ARTICLE, seed=0).state_dict(), Model(ARTICLE, seed=1).state_dict()
    without = Model(ARTICLE.model_copy(update={"discriminator_hidden": None}), seed=0).state_dict()
    weight = "encoder.layers.0.weight"
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first[weight], other[weight])
    # An additional network must not change the others.
    assert all(torch.equal(first[name], without[name]) for name in without)
    # nn.Linear draws from the uniform distribution up to 1 / sqrt(inputs).
    bound = 1 / math.sqrt(784)
    assert 0.999 * bound < first[weight].abs().max() <= bound
    assert first[weight].std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)


def test_units_of_the_codes_reach_all_three_networks(digits):
    model = small()
    images = pixels(digits)
    codes = model.encoder(images)
    decoded, logits = model.decoder(codes), model.discriminator(codes)
    mean, scale = torch.tensor([100.0, 0.0, -3.0]), torch.tensor([0.5, 1.0, 20.0])
    for network in (model.encoder, model.decoder, model.discriminator):
        network.set_units(mean, scale)
    moved = model.encoder(images)
    torch.testing.assert_close(moved, mean + scale * codes)
    # The resolution of single precision at 100 is 8e-6.
    torch.testing.assert_close(model.decoder(moved), decoded, atol=1e-4, rtol=0)
    torch.testing.assert_close(model.discriminator(moved), logits, atol=1e-4, rtol=0)


def test_rescaling_the_codes_leaves_the_reconstructions_as_they_are(digits):
    model = small()
    images = pixels(digits)
    codes, decoded = model.encoder(images), model.decoder(model.encoder(images))
    shift, scale = codes.mean(0).detach(), codes.std(0).detach()
    rescale_codes(model.encoder, model.decoder, shift, scale)
    torch.testing.assert_close(model.encoder(images), (codes - shift) / scale)
    torch.testing.assert_close(model.decoder(model.encoder(images)), decoded)


def test_any_number_of_uint8_or_float_inputs_goes_through(digits):
    model = small()
    many = digits.repeat(CHUNK // 60 + 2, 1, 1, 1)
    codes = model.encode(many)
    assert not codes.requires_grad
    torch.testing.assert_close(codes, model.encoder(many.float() / 255).detach())
    torch.testing.assert_close(model.decode(codes), model.decoder(codes).detach())
