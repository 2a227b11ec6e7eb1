import pytest
import torch
from support import SIZES

from aae.models import Architecture, Model
from aae.models.networks import apply
from aae.params import Posterior
from aae.priors import chosen_prior
from aae.training import adversarial_training, centre
from aae.training.warm_start import initialise

NONE = Posterior(kind="deterministic", std=None, min_std=0.0)
FIXED = Posterior(kind="gaussian", std=0.6, min_std=0.0)
LEARNT = Posterior(kind="gaussian", std=None, min_std=0.1)
UNIVERSAL = Posterior(kind="universal", std=None, min_std=0.0)
GAMMA = {"name": "gamma", "distribution": "Gamma", "concentration": 2.0, "rate": 1.0}


def make_model(posterior: Posterior, units: str = "gaussian", seed: int = 0) -> Model:
    return Model(Architecture(**SIZES, prior=GAMMA, units=units, posterior=posterior), seed=seed)


def moments(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return values.mean(0), torch.cov(values.T)


@pytest.mark.parametrize("posterior", [NONE, FIXED, LEARNT, UNIVERSAL])
def test_a_warm_start_has_the_priors_moments_and_the_autoencoders_reconstructions(
    make_params, digits, posterior
):
    params = make_params({"prior": "gamma"})
    autoencoder, model = Model(Architecture(**SIZES), seed=1), make_model(posterior)
    initialise(model, chosen_prior(params), autoencoder, digits)
    mean, covariance = moments(model.units.to_units(model.encode(digits)))
    torch.testing.assert_close(mean, torch.zeros(2), atol=1e-4, rtol=0)
    # The noise of a fixed standard deviation adds the rest.
    expected = (1 - posterior.fixed_variance) * torch.eye(2)
    torch.testing.assert_close(covariance, expected, atol=1e-3, rtol=0)
    before = autoencoder.decode(autoencoder.encode(digits))
    torch.testing.assert_close(model.decode(model.encode(digits)), before, atol=1e-4, rtol=0)


def test_without_units_the_codes_themselves_have_the_priors_moments(make_params, digits):
    params = make_params({"prior": "gamma"})
    autoencoder, model = Model(Architecture(**SIZES), seed=1), make_model(NONE, units="codes")
    initialise(model, chosen_prior(params), autoencoder, digits)
    mean, covariance = moments(model.encode(digits))
    torch.testing.assert_close(mean, torch.tensor([2.0, 2.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(covariance, 2 * torch.eye(2), atol=1e-3, rtol=0)


def test_a_start_from_scratch_needs_no_autoencoder(make_params, digits):
    changes = {
        "train_aae.init": "scratch", "network.hidden": [32], "network.discriminator_hidden": [32]
    }  # fmt: skip
    params = make_params(changes)
    training = adversarial_training(params, digits, digits, None)
    expected = Model(training.model.architecture, params.seed)
    for name, value in expected.state_dict().items():
        assert torch.equal(training.model.state_dict()[name], value), name


def test_a_start_with_fewer_units_than_codes_keeps_the_leading_components(digits, make_params):
    """Codes that are shares have one unit less: the direction that is dropped gets its mean."""
    prior = {"name": "shares", "distribution": "Dirichlet", "concentration": [1.0, 2.0, 3.0]}
    sizes = SIZES | {"latent_dim": 3}
    autoencoder = Model(Architecture(**sizes), seed=1)
    last = autoencoder.encoder.layers[-1]
    with torch.no_grad():  # a third dimension that is always 5
        last.weight[2], last.bias[2] = 0, 5
    model = Model(Architecture(**sizes, prior=prior, units="gaussian"), seed=0)
    entry = {key: value for key, value in prior.items() if key != "name"}
    params = make_params({"prior": "shares", "priors.shares": entry, "latent_dim": 3})
    initialise(model, chosen_prior(params), autoencoder, digits)
    images = apply(model.encoder, model.device, digits)
    torch.testing.assert_close(images.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    found = apply(lambda x: model.decoder(model.encoder(x)), model.device, digits)
    before = autoencoder.decode(autoencoder.encode(digits))
    torch.testing.assert_close(found, before, atol=1e-4, rtol=0)


@pytest.mark.parametrize("posterior", [NONE, FIXED, LEARNT])
def test_centring_gives_the_codes_the_priors_mean_and_keeps_the_reconstructions(digits, posterior):
    model = make_model(posterior)
    before = model.decode(model.encode(digits))
    centre(model, digits)
    units = model.units.to_units(model.encode(digits))
    torch.testing.assert_close(units.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(model.decode(model.encode(digits)), before, atol=1e-4, rtol=0)


def test_codes_without_units_are_not_moved(digits):
    model = make_model(NONE, units="codes")
    before = model.encode(digits)
    centre(model, digits)
    assert torch.equal(model.encode(digits), before)
