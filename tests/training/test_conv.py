"""Trainings of convolutional networks."""

import pytest
import torch
from support import SIZES, UNCHANGED, check_same_bytes_also_after_a_kill, make_digits
from support import make_training as make

from aae.models import Architecture, Conv, Model
from aae.params import Posterior
from aae.priors import chosen_prior
from aae.training import Training, adversarial_training, autoencoder_training, centre
from aae.training.warm_start import initialise

CONV = {
    "network.kind": "conv", "network.channels": [8], "network.features": [16],
    "network.discriminator_hidden": [16],
}  # fmt: skip
NONE = Posterior(kind="deterministic", std=None, min_std=0.0)
FIXED = Posterior(kind="gaussian", std=0.6, min_std=0.0)
LEARNT = Posterior(kind="gaussian", std=None, min_std=0.1)
UNIVERSAL = Posterior(kind="universal", std=None, min_std=0.0)
GAMMA = {"name": "gamma", "distribution": "Gamma", "concentration": 2.0, "rate": 1.0}


def make_model(seed: int, **more) -> Model:
    sizes = {name: size for name, size in SIZES.items() if name != "hidden"}
    return Model(Architecture(**sizes, network=Conv(channels=(8,)), **more), seed)


@pytest.fixture
def make_training(make_params, digits):
    """Return a function that always makes the same adversarial training, at its start."""

    def training(**changes) -> Training:
        settings = {"train_aae.batch_size": 20, "train_aae.epochs": 4, "train_aae.init": "scratch"}
        params = make_params(CONV | settings | changes)
        return adversarial_training(params, digits[:45], digits[45:], None)

    return training


def test_an_autoencoder_learns_the_digits(make_params):
    images = make_digits(300)
    settings = {"train_ae.batch_size": 20, "train_ae.epochs": 20, "train_ae.learning_rate": 0.01}
    params = make_params(CONV | UNCHANGED | settings)
    training = autoencoder_training(params, images[:200], images[200:])
    epochs = list(training.epochs())
    chance = (images / 255).var(0, correction=0).mean().item()  # the error of the mean image
    assert epochs[-1]["validation_reconstruction_loss"] < 0.5 * chance
    codes = training.averaged.encode(images[200:])
    centres = torch.stack([codes[k::3].mean(0) for k in range(3)])
    found = torch.cdist(codes, centres).argmin(1)
    # The 200th image is of class 2, so the order of the classes in this part does not matter.
    assert (found == torch.arange(100) % 3).float().mean() > 0.9


def test_a_training_is_the_same_each_time_also_after_a_kill(make_training):
    check_same_bytes_also_after_a_kill(make_training, step=5)


@pytest.mark.parametrize("posterior", [NONE, FIXED, LEARNT, UNIVERSAL])
def test_a_warm_start_has_the_priors_moments_and_the_autoencoders_reconstructions(
    make_params, digits, posterior
):
    params = make_params({"prior": "gamma"})
    autoencoder = make_model(seed=1)
    model = make_model(seed=0, prior=GAMMA, units="gaussian", posterior=posterior)
    before = autoencoder.decode(autoencoder.encode(digits))
    initialise(model, chosen_prior(params), autoencoder, digits)
    units = model.units.to_units(model.encode(digits))
    torch.testing.assert_close(units.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    expected = (1 - posterior.fixed_variance) * torch.eye(2)
    torch.testing.assert_close(torch.cov(units.T), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(model.decode(model.encode(digits)), before, atol=1e-4, rtol=0)
    with torch.no_grad():  # as a training does
        model.encoder.layers[-1].bias[:2] += 0.5
    moved = model.decode(model.encode(digits))
    centre(model, digits)
    torch.testing.assert_close(model.decode(model.encode(digits)), moved, atol=1e-4, rtol=0)


@pytest.mark.parametrize("posterior", [FIXED, LEARNT, UNIVERSAL])
def test_a_step_has_all_of_its_tensors_on_the_device_of_the_model(make_params, digits, posterior):
    # Tensors on the device "meta" have no values: a step that reads one fails, as it would in the
    # recording of a step on a GPU.
    params = make_params({"train_aae.batch_size": 20})
    model = make_model(seed=0, prior=GAMMA, units="gaussian", posterior=posterior).to("meta")
    training = make("train_aae", model, params, digits[:45], digits[45:])
    losses = training.train_batch(training.batches.draw(torch.arange(20))) | training.validate()
    assert {loss.device.type for loss in losses.values()} == {"meta"}
