import copy

import pytest
import torch
from support import SIZES

from aae.models import Architecture, Model
from aae.params import Posterior
from aae.priors import chosen_prior
from aae.training import centre
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
    initialise(model, chosen_prior(params), params.train_aae, autoencoder, digits)
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
    initialise(model, chosen_prior(params), params.train_aae, autoencoder, digits)
    mean, covariance = moments(model.encode(digits))
    torch.testing.assert_close(mean, torch.tensor([2.0, 2.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(covariance, 2 * torch.eye(2), atol=1e-3, rtol=0)


def test_a_start_from_scratch_takes_nothing_of_the_autoencoder(make_params, digits):
    params, model = make_params({"train_aae.init": "scratch"}), make_model(NONE)
    before = copy.deepcopy(dict(model.named_parameters()))
    initialise(model, chosen_prior(params), params.train_aae, make_model(NONE, seed=1), digits)
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


@pytest.mark.parametrize("posterior", [NONE, FIXED, LEARNT, UNIVERSAL])
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
