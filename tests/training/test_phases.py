import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import SIZES, STOCHASTIC, UNCHANGED, make_digits, weights
from support import make_training as make

from aae.errors import TrainingError
from aae.models import Architecture, Model
from aae.models.networks import pixels
from aae.params import DETERMINISTIC, Posterior
from aae.training import Training, adversarial_training, autoencoder_training
from aae.training.devices import has_bf16
from aae.training.phases import Loss, Step


@pytest.fixture
def model() -> Model:
    return Model(Architecture(**SIZES), seed=0)


@pytest.fixture
def make_training(make_params, model, digits):
    def training(**changes) -> Training:
        plain = {**UNCHANGED, "train_aae.average": 0.0, "train_aae.discriminator_steps": 1}
        changes = {"train_aae.batch_size": 20, **plain, **changes}
        params = make_params({key.replace("__", "."): value for key, value in changes.items()})
        return make("train_aae", model, params, digits[:45], digits[45:])

    return training


@pytest.fixture
def batch(digits) -> dict[str, torch.Tensor]:
    """Twenty images and prior samples."""
    samples = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    images = pixels(digits[:20])
    return {
        "inputs": images, "targets": images, "regularised_inputs": images,
        "prior_samples": samples[:, None],
    }  # fmt: skip


def take(training: Training, name: str, batch: dict) -> torch.Tensor:
    """Carry out one phase on a batch; return its loss before the update."""
    (phase,) = (phase for phase in training.phases if phase.name == name)
    return training.update(phase, Step(training.model, batch))


PHASES = {
    "reconstruction": {"encoder", "decoder"},
    "discriminator": {"discriminator"},
    "generator": {"encoder"},
}


def changed_networks(model: Model, before: dict) -> set[str]:
    return {
        name.split(".")[0]
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }


@pytest.mark.parametrize("name", PHASES)
def test_each_phase_changes_its_own_networks_and_no_other(make_training, model, batch, name):
    before = copy.deepcopy(model.state_dict())
    take(make_training(), name, batch)
    assert changed_networks(model, before) == PHASES[name]


@pytest.mark.parametrize("name", PHASES)
def test_each_phase_lowers_its_own_loss(make_training, batch, name):
    training = make_training()
    losses = [take(training, name, batch).item() for _ in range(20)]
    assert losses[-1] < losses[0]


def test_the_losses_are_those_of_the_paper(make_training, model, batch):
    codes = model.encoder(batch["inputs"])
    real = model.discriminator(batch["prior_samples"][:, 0]).sigmoid()
    fake = model.discriminator(codes).sigmoid()
    # min over D of -E[log D(prior sample)] - E[log(1 - D(code))]; min over the encoder of -E[log D]
    expected = {
        "discriminator": -(real.log().mean() + (1 - fake).log().mean()),
        "generator": -fake.log().mean(),
        "reconstruction": (model.decoder(codes) - batch["targets"]).square().mean(),
    }
    for name, loss in expected.items():
        model.load_state_dict(Model(Architecture(**SIZES), seed=0).state_dict())
        torch.testing.assert_close(take(make_training(), name, batch), loss.detach())


def test_a_phase_sees_what_the_phases_before_it_have_changed(make_training, model, batch):
    """Two phases share the codes, unless the encoder has changed between them."""
    found = make_training().train_batch(batch)
    model.load_state_dict(Model(Architecture(**SIZES), seed=0).state_dict())
    training = make_training()
    expected = {f"{name}_loss": take(training, name, batch) for name in PHASES}
    assert found == expected


def test_the_encoder_learns_in_the_direction_of_what_passes_for_a_prior_sample(
    make_training, model, batch
):
    training = make_training()
    before = model.discriminator(model.encoder(batch["inputs"])).mean().item()
    for _ in range(10):
        take(training, "generator", batch)
    assert model.discriminator(model.encoder(batch["inputs"])).mean().item() > before


def gradient(make_training, model: Model, batch: dict, penalty: float):
    """Return the gradient of the discriminator's first layer after a step."""
    model.load_state_dict(Model(Architecture(**SIZES), seed=0).state_dict())
    take(make_training(train_aae__gradient_penalty=penalty), "discriminator", batch)
    return model.discriminator.layers[0].weight.grad.clone()


def test_the_gradient_penalty_adds_its_gradient(make_training, model, batch):
    samples = batch["prior_samples"][:, 0]
    without, with_it = (gradient(make_training, model, batch, x) for x in (0.0, 1.0))
    model.load_state_dict(Model(Architecture(**SIZES), seed=0).state_dict())
    # The input gradient of a network with one hidden ReLU layer, by hand.
    first, last = model.discriminator.layers[0], model.discriminator.layers[-1]
    active = (samples @ first.weight.T + first.bias > 0).float()
    by_hand = ((active * last.weight) @ first.weight).square().sum(1).mean()
    (expected,) = torch.autograd.grad(by_hand, first.weight)
    torch.testing.assert_close(with_it - without, expected, atol=1e-6, rtol=1e-4)


def test_an_epoch_sees_every_image_once(make_training, digits):
    training = make_training(train_aae__epochs=1)
    seen = []
    step = training.train_batch
    training.train_batch = lambda drawn: seen.append(drawn["targets"]) or step(drawn)
    list(training.epochs())
    assert [len(images) for images in seen] == [20, 20, 5]
    images = (torch.cat(seen) * 255).round().to(torch.uint8)

    def rows(batch: torch.Tensor) -> list[bytes]:
        return sorted(image.numpy().tobytes() for image in batch)

    assert rows(images) == rows(digits[:45])
    assert not torch.equal(images, digits[:45])


def test_a_mirrored_image_is_decoded_mirrored(make_training, digits):
    batch = make_training(augment__flip=0.5).batches.draw(torch.arange(20))
    images = pixels(digits[:20])
    torch.testing.assert_close(batch["inputs"], batch["targets"], atol=1e-4, rtol=0)
    kept = [torch.equal(one, other) for one, other in zip(batch["targets"], images, strict=True)]
    assert 0 < sum(kept) < 20


def test_every_epoch_has_an_order_of_its_own(make_training):
    training = make_training(train_aae__epochs=2)
    seen = []
    step = training.train_batch
    training.train_batch = lambda drawn: seen.append(drawn["targets"]) or step(drawn)
    first, second = (torch.cat(seen[3 * k : 3 * k + 3]) for k, _ in enumerate(training.epochs()))
    assert not torch.equal(first, second)


def losses_by_hand(model: Model, images, prior_samples) -> dict[str, float]:
    """Return the three losses of a batch by the paper's formulas."""
    codes = model.encoder(images)
    real, fake = (model.discriminator(x).sigmoid() for x in (prior_samples[:, 0], codes))
    return {
        "reconstruction_loss": (model.decoder(codes) - images).square().mean().item(),
        "discriminator_loss": -(real.log().mean() + (1 - fake).log().mean()).item(),
        "generator_loss": -fake.log().mean().item(),
    }


def test_losses_of_an_epoch_are_means_over_its_images_and_over_the_validation_images(
    make_training, model, digits
):
    rates = {f"train_aae__learning_rate__{name}": 0.0 for name in PHASES}
    training = make_training(train_aae__epochs=1, **rates)
    batches = []
    step = training.train_batch
    training.train_batch = lambda batch: batches.append(dict(batch)) or step(batch)
    (found,) = training.epochs()
    names = ("reconstruction_loss", "discriminator_loss", "generator_loss")
    expected = dict.fromkeys(names, 0.0)
    for batch in batches:  # of 20, 20 and 5 images
        images = batch["targets"]
        for name, loss in losses_by_hand(model, images, batch["prior_samples"]).items():
            expected[name] += loss * len(images) / 45
    held_out = losses_by_hand(model, pixels(digits[45:]), training.batches.validation_samples)
    expected |= {f"validation_{name}": loss for name, loss in held_out.items()}
    assert found == pytest.approx({"epoch": 1, **expected}, rel=1e-5)


def test_every_optimiser_has_the_betas_of_the_settings(make_training):
    training = make_training(train_aae__beta1=0.3, train_aae__beta2=0.7)
    assert len(training.optimisers) == 3
    betas = {optimiser.param_groups[0]["betas"] for optimiser in training.optimisers.values()}
    assert betas == {(0.3, 0.7)}


def test_a_weight_that_a_loss_does_not_reach_is_told(make_training, batch):
    training = make_training()
    unreached = dataclasses.replace(
        training.phases[2], loss=lambda step: Loss(step.model.encoder.layers[0].weight.sum())
    )
    with pytest.raises(AssertionError, match="generator: the loss does not reach every weight"):
        training.update(unreached, Step(training.model, batch))


def test_epochs_have_the_columns_of_the_history_and_the_reconstruction_improves(make_training):
    changes = {"train_aae__learning_rate__generator": 1e-3, "train_aae__warmup": 0.0}
    epochs = list(make_training(train_aae__epochs=30, **changes).epochs())
    assert [losses["epoch"] for losses in epochs] == list(range(1, 31))
    names = ["reconstruction_loss", "discriminator_loss", "generator_loss"]
    assert list(epochs[0]) == ["epoch", *names, *(f"validation_{name}" for name in names)]
    for name in ("reconstruction_loss", "validation_reconstruction_loss"):
        assert epochs[-1][name] < 0.7 * epochs[0][name]


def test_the_autoencoder_learns_to_reconstruct(make_params, model, digits):
    changes = {"train_ae.batch_size": 20, "train_ae.epochs": 30, **UNCHANGED}
    params = make_params(changes)
    training = make("train_ae", model, params, digits[:45], digits[45:])
    before = copy.deepcopy(model.discriminator.state_dict())
    epochs = list(training.epochs())
    assert list(epochs[0]) == ["epoch", "reconstruction_loss", "validation_reconstruction_loss"]
    for name in ("reconstruction_loss", "validation_reconstruction_loss"):
        assert epochs[-1][name] < 0.8 * epochs[0][name]
    expected = F.mse_loss(model.decode(model.encode(digits[45:])), digits[45:] / 255)
    assert epochs[-1]["validation_reconstruction_loss"] == pytest.approx(expected.item())
    assert all(
        torch.equal(value, before[k]) for k, value in model.discriminator.state_dict().items()
    )


@pytest.mark.parametrize("rate", [5e-3, 0.0], ids=["adversarial", "generator switched off"])
def test_the_generator_step_is_what_pulls_the_codes_to_the_prior(make_params, model, rate):
    images = make_digits(600)
    changes = {
        "train_aae.init": "scratch", "train_aae.epochs": 40, "train_aae.batch_size": 50,
        "train_aae.learning_rate.reconstruction": 5e-3,
        "train_aae.learning_rate.discriminator": 5e-3,
        "train_aae.learning_rate.generator": rate,
        "priors.gaussian.loc": 40.0, "priors.gaussian.scale": 2.0, **UNCHANGED,
        "network.hidden": [32], "network.discriminator_hidden": [32],
        "posterior.kind": "deterministic",
    }  # fmt: skip
    training = adversarial_training(make_params(changes), images[:450], images[450:], model)
    list(training.epochs())
    codes = (training.averaged.encode(images[450:]) - 40) / 2
    close = bool((codes.mean(0).abs() < 0.6).all() and ((codes.std(0) - 1).abs() < 0.4).all())
    assert close == (rate > 0)


def rates_by_epoch(make_training, **changes) -> list[list[float]]:
    """Return the relative learning rates of the three optimisers in the last steps of epochs."""
    training = make_training(train_aae__epochs=8, **changes)
    settings = training.settings.learning_rate.model_dump(include=training.optimisers.keys())
    seen: list[dict[str, float]] = []

    def look() -> None:
        optimisers = training.optimisers.items()
        seen.append({name: optimiser.param_groups[0]["lr"] for name, optimiser in optimisers})

    list(training.epochs(look))
    return [
        [rate / settings[name] for name, rate in rates.items()]
        for rates in seen[training.steps_per_epoch - 1 :: training.steps_per_epoch]
    ]


def test_cosine_decays_the_rates_to_zero_and_constant_keeps_them(make_training):
    constant = {"train_aae__schedule": "constant", "train_aae__warmup": 0.0}
    assert rates_by_epoch(make_training, **constant) == pytest.approx(np.ones((8, 3)))
    cosine = {"train_aae__schedule": "cosine", "train_aae__warmup": 0.0}
    # Each epoch has three steps; their last steps are steps 2, 5, … of 24.
    expected = [(1 + math.cos(math.pi * (3 * k - 1) / 24)) / 2 for k in range(1, 9)]
    for rates in np.transpose(rates_by_epoch(make_training, **cosine)):
        assert rates == pytest.approx(expected, abs=1e-9)


def test_the_rates_rise_over_the_warmup(make_training):
    changes = {"train_aae__schedule": "constant", "train_aae__warmup": 0.5}
    rates = np.array(rates_by_epoch(make_training, **changes))[:, 0]
    # Each epoch has three steps; the warm-up takes twelve.
    assert rates == pytest.approx([3 / 12, 6 / 12, 9 / 12, 1, 1, 1, 1, 1])


def test_a_learning_rate_of_zero_keeps_a_network_as_it_is(make_training, model):
    training = make_training(train_aae__epochs=1, train_aae__learning_rate__discriminator=0.0)
    before = copy.deepcopy(model.state_dict())
    list(training.epochs())
    assert changed_networks(model, before) == {"encoder", "decoder"}


def test_training_repeats_and_reads_no_global_generator(make_training, model):
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model.load_state_dict(Model(Architecture(**SIZES), seed=0).state_dict())
        results.append(list(make_training(train_aae__epochs=3).epochs()))
    assert results[0] == results[1]


def test_a_loss_that_is_not_finite_stops_the_training(make_training):
    training = make_training(train_aae__learning_rate__reconstruction=1e38)
    with pytest.raises(TrainingError, match="discriminator_loss is nan in epoch 1, step 1 of 3"):
        list(training.epochs())


def test_a_loss_that_breaks_in_the_last_step_of_an_epoch_is_caught(make_params, model, digits):
    params = make_params({"train_ae.batch_size": 100, "train_ae.learning_rate": 1e20})
    training = make("train_ae", model, params, digits, digits)
    with pytest.raises(TrainingError, match="validation_reconstruction_loss is nan in epoch 1"):
        list(training.epochs())


def test_a_weight_that_is_not_finite_stops_the_training_though_the_losses_are(make_training, model):
    """The sigmoid hides the weight: one pixel is white for every code."""
    torch.nn.init.constant_(model.decoder.layers[2].bias, torch.inf)
    message = r"decoder.layers.2.bias is not finite in epoch 1, step 3 of 3"
    with pytest.raises(TrainingError, match=message):
        list(make_training().epochs())


def test_bf16_trains_as_float32_does_but_for_rounding(make_params, digits):
    changes = {"train_aae.batch_size": 20, "train_aae.epochs": 10, **UNCHANGED}
    params = make_params(changes)
    losses = {}
    for precision in ("float32", "bf16"):
        model = Model(Architecture(**SIZES), seed=0)
        training = make("train_aae", model, params, digits[:45], digits[45:], precision)
        losses[precision] = list(training.epochs())
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    for exact, rounded in zip(losses["float32"], losses["bf16"], strict=True):
        assert exact != rounded
        assert rounded == pytest.approx(exact, rel=2**-6)  # bfloat16 has 8 significant bits


def test_auto_is_bf16_where_the_device_has_it(make_params, model, digits):
    training = make("train_ae", model, make_params({}), digits, digits, "auto")
    assert training.precision == ("bf16" if has_bf16(model.device) else "float32")


def test_the_discriminator_takes_its_steps_on_different_prior_samples(make_training):
    training = make_training(train_aae__discriminator_steps=3, train_aae__epochs=1)
    seen = []
    loss = training.phases[1].loss
    training.phases[1] = dataclasses.replace(
        training.phases[1],
        loss=lambda step: seen.append(step.batch["prior_samples"][:, step.turn]) or loss(step),
    )
    training.train_batch(training.batches.draw(torch.arange(20)))
    assert len(seen) == 3
    assert len({samples.numpy().tobytes() for samples in seen}) == 3


def test_each_phase_sees_the_augmentation_of_its_own(make_training, digits):
    originals = pixels(digits[:20])

    def changes(name: str, **settings) -> float:
        """Largest change of a pixel in images of a batch."""
        plain = {"augment__target": "original", "augment__regularisation": 0.25}
        training = make_training(augment__rotate=40.0, **plain | settings)
        return (training.batches.draw(torch.arange(20))[name] - originals).abs().max().item()

    assert changes("inputs") > 0.2
    assert changes("targets") == 0
    assert changes("targets", augment__target="augmented") == changes("inputs")
    assert changes("regularised_inputs", augment__regularisation=0.0) < 1e-5
    assert 0.01 < changes("regularised_inputs") < changes("inputs") / 2
    assert changes("regularised_inputs", augment__regularisation=1.0) > 0.2


def test_the_autoencoder_does_not_depend_on_the_augmentation_of_the_regularisation(
    make_params, digits
):
    found = []
    for factor in (0.0, 1.0):
        changes = {"augment.regularisation": factor, "train_ae.epochs": 2, "network.hidden": [8]}
        training = autoencoder_training(make_params(changes), digits[:45], digits[45:])
        found.append((list(training.epochs()), weights(training)))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("posterior", "noisy"),
    [
        (DETERMINISTIC, set()),
        (Posterior(kind="gaussian", std=0.5, min_std=0.1), {"regularised_noise"}),
        (Posterior(kind="gaussian", std=None, min_std=0.1), {"noise", "regularised_noise"}),
        (Posterior(kind="universal", std=None, min_std=0.1), {"noise", "regularised_noise"}),
    ],
)
def test_fixed_noise_is_in_the_regularisation_phase_alone(make_params, digits, posterior, noisy):
    model = Model(Architecture(**STOCHASTIC | {"posterior": posterior}), seed=0)
    training = make("train_aae", model, make_params({}), digits[:45], digits[45:])
    batch = training.batches.draw(torch.arange(20))
    assert batch.keys() & {"noise", "regularised_noise"} == noisy


@pytest.mark.parametrize("batch_size", [100, 15, 10])
def test_the_averaged_weights_are_moving_averages_with_a_time_constant_in_epochs(
    make_training, batch_size
):
    """By hand: an update every fifth step and after an epoch."""
    training = make_training(
        train_aae__batch_size=batch_size, train_aae__average=2.0, train_aae__epochs=40
    )
    steps, weight = training.steps_per_epoch, training.model.decoder.layers[0].weight
    average, updated = torch.zeros_like(weight, dtype=torch.double), 0

    def update():
        nonlocal average, updated
        constant = min(2.0 * steps, training.step / 10)
        share = 1.0 if updated == 0 else 1 - math.exp(-(training.step - updated) / constant)
        average = torch.lerp(average, weight.detach().double(), share)
        updated = training.step

    def between_steps():
        if training.step % steps and training.step % steps % 5 == 0:
            update()

    for _ in training.epochs(between_steps):
        update()
        found = training.averaged.decoder.layers[0].weight.detach()
        torch.testing.assert_close(found.double(), average, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(found, weight, atol=1e-5)


def test_without_averaging_the_result_is_the_trained_model(make_training):
    training = make_training(train_aae__epochs=2)
    list(training.epochs())
    for name, value in training.averaged.state_dict().items():
        assert torch.equal(value, training.model.state_dict()[name]), name
