import math

import pytest
import torch

from aae.models import Architecture, Model
from aae.models.networks import CHUNK, pixels
from aae.params import Posterior

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


def test_any_number_of_uint8_or_float_inputs_goes_through(digits):
    model = small()
    many = digits.repeat(CHUNK // 60 + 2, 1, 1, 1)
    codes = model.encode(many)
    assert not codes.requires_grad
    torch.testing.assert_close(codes, model.encoder(many.float() / 255).detach())
    torch.testing.assert_close(model.decode(codes), model.decoder(codes).detach())


GAUSSIAN = Posterior(kind="gaussian", std=0.25, min_std=0.0)
LEARNT = Posterior(kind="gaussian", std=None, min_std=0.1)
UNIVERSAL = Posterior(kind="universal", std=None, min_std=0.0)
GAMMA = {"name": "gamma", "distribution": "Gamma", "concentration": 0.5, "rate": 1.0}


def stochastic(posterior: Posterior) -> Model:
    architecture = Architecture(
        image_shape=(1, 4, 4), latent_dim=2, hidden=(8,), prior=GAMMA, units="gaussian",
        posterior=posterior,
    )  # fmt: skip
    return Model(architecture, seed=0)


def spread(model: Model, image: torch.Tensor) -> torch.Tensor:
    """Return 4,000 samples of the posterior of one image, in units."""
    noise = model.noise(4000, torch.Generator().manual_seed(0))
    return model.units.to_units(model.encode(image.expand(4000, -1, -1, -1), noise))


def test_a_deterministic_posterior_has_no_noise(digits):
    model = stochastic(Posterior(kind="deterministic", std=0.5, min_std=0.5))
    assert model.noise(5, torch.Generator()) is None
    noise = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.encode(digits, noise), model.encode(digits))


def test_a_fixed_posterior_is_a_gaussian_of_that_width_around_its_mean(digits):
    model = stochastic(GAUSSIAN)
    samples = spread(model, digits[:1])
    mean = model.units.to_units(model.encode(digits[:1]))
    # Four standard errors of 4,000 samples
    assert (samples.mean(0) - mean).abs().max() < 4 * 0.25 / 4000**0.5
    assert (samples.std(0) / 0.25 - 1).abs().max() < 4 / 8000**0.5


def test_a_learnt_posterior_has_the_width_that_the_encoder_emits_and_never_less_than_the_floor(
    digits,
):
    model = stochastic(LEARNT)
    last = model.encoder.layers[-1]
    for log_variance, expected in ((2 * math.log(0.5), (0.5**2 + 0.1**2) ** 0.5), (-50.0, 0.1)):
        with torch.no_grad():
            last.bias[2:] = log_variance
        samples = spread(model, digits[:1])
        assert (samples.std(0) / expected - 1).abs().max() < 4 / 8000**0.5


def test_a_universal_posterior_depends_on_its_noise_and_means_noise_zero(digits):
    model = stochastic(UNIVERSAL)
    assert spread(model, digits[:1]).std(0).min() > 0.01
    assert torch.equal(model.encode(digits, torch.zeros(60, 2)), model.encode(digits))


@pytest.mark.parametrize("posterior", [GAUSSIAN, LEARNT, UNIVERSAL])
def test_no_noise_leaves_the_support_of_the_prior(digits, posterior):
    model = stochastic(posterior)
    with torch.no_grad():  # far out in the units
        model.encoder.layers[-1].bias[:2] -= 20
    noise = 3 * model.noise(60, torch.Generator().manual_seed(0))
    codes = model.encode(digits, noise)
    assert codes.min() >= 0
    assert codes.isfinite().all()
