"""A training on a GPU, or, without one, its error, and that a step mixes no devices."""

import pytest
import scipy.stats
import torch
from support import PRIOR_NAMES, PRIORS, SIZES, make_prior
from support import make_training as make

from aae.data import Images, known_labels
from aae.errors import ParameterError, TrainingError
from aae.models import Architecture, Model
from aae.params import Precision
from aae.seeding import stream
from aae.training import Training, adversarial_training
from aae.training.devices import rounding, training_device
from aae.training.snapshots import read_snapshot, write_snapshot

with_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
# Changes to params.yaml, each with other tensors in a batch or other phases.
VARIANTS = [
    {"posterior.kind": "deterministic"},
    {"posterior.std": 0.6},
    {"posterior.kind": "universal"},
    {"network.kind": "conv", "network.channels": [4, 8], "network.features": [16]},
    {"labels.use": "prior", "prior": "swiss_roll"},
    {"labels.use": "decoder"},
    {"labels.use": "semi-supervised", "labels.count": 9},
    {"labels.use": "clusters", "labels.clusters": 4},
]


@pytest.fixture
def train_on(make_params, digits):
    """Return a function that makes the same training on a device, in a precision."""
    params = make_params({"train_aae.batch_size": 20, "train_aae.epochs": 10})

    def training(device: str, precision: Precision = "float32") -> Training:
        model = Model(Architecture(**SIZES), seed=0).to(device)
        return make("train_aae", model, params, digits[:45], digits[45:], precision)

    return training


@pytest.fixture
def train_variant_on(make_params, digits):
    """Return a function that makes the same training of a variant on a device."""

    def training(device: str, changes: dict) -> Training:
        sizes = {"network.hidden": [32], "network.discriminator_hidden": [32]}
        params = make_params(
            {"train_aae.batch_size": 20, "train_aae.epochs": 4, "train_aae.init": "scratch"}
            | sizes | changes
        )  # fmt: skip
        parts = [Images(part, torch.arange(len(part)) % 3) for part in (digits[:45], digits[45:])]
        train, validation = (part.images for part in parts)
        known = known_labels(*parts, "abc", params)
        model = adversarial_training(params, train, validation, None, known).model
        return make("train_aae", model.to(device), params, train, validation, known=known)

    return training


@without_gpu
def test_without_a_gpu_cuda_is_refused_and_auto_is_the_processor():
    with pytest.raises(
        ParameterError, match=r"device: 'cuda' needs a GPU and there is none; use 'cpu' or 'auto'"
    ):
        training_device("cuda")
    assert training_device("auto") == training_device("cpu") == torch.device("cpu")


def test_tf32_is_refused_where_no_gpu_has_it(train_on):
    message = r"precision: 'tf32' needs device: cuda and a GPU that supports it; use 'float32', "
    with pytest.raises(ParameterError, match=message):
        train_on("cpu", "tf32")


def test_products_are_rounded_until_the_block_ends_however_it_ends():
    products, convolutions, seen = torch.backends.cuda.matmul, torch.backends.cudnn.conv, []
    before = products.fp32_precision, convolutions.fp32_precision

    def end_in_an_error(precision: Precision) -> None:
        with rounding(precision):
            seen.append((products.fp32_precision, convolutions.fp32_precision))
            raise KeyError

    for precision in ("float32", "tf32", "float32"):
        with pytest.raises(KeyError):
            end_in_an_error(precision)
        assert (products.fp32_precision, convolutions.fp32_precision) == before
    assert seen == [("ieee", "ieee"), ("tf32", "tf32"), ("ieee", "ieee")]


def test_a_step_has_all_of_its_tensors_on_the_device_of_the_model(train_on):
    # Tensors on the device "meta" have shapes but no values; a CPU tensor among them is an error,
    # as on a GPU.
    training = train_on("meta")
    losses = training.train_batch(training.batches.draw(torch.arange(20))) | training.validate()
    assert len(losses) == 6
    assert {loss.device.type for loss in losses.values()} == {"meta"}


@pytest.mark.parametrize(
    "changes", VARIANTS, ids=lambda changes: "-".join(map(str, changes.values()))
)
def test_a_step_of_every_variant_has_all_of_its_tensors_there(train_variant_on, changes):
    training = train_variant_on("meta", changes)
    batch = training.batches.draw(torch.arange(20))
    assert {tensor.device.type for tensor in batch.values()} == {"meta"}
    losses = training.train_batch(batch) | training.validate()
    assert {loss.device.type for loss in losses.values()} == {"meta"}


@with_gpu
@pytest.mark.parametrize(
    "changes", VARIANTS, ids=lambda changes: "-".join(map(str, changes.values()))
)
def test_on_a_gpu_every_variant_trains_the_same_each_time(train_variant_on, changes):
    """Three steps an epoch, four epochs: with recorded steps."""
    first, again = (list(train_variant_on("cuda", changes).epochs()) for _ in range(2))
    assert first == again
    assert len(first) == 4


@with_gpu
def test_on_a_gpu_a_step_does_what_it_does_on_the_processor(train_on):
    here, there = train_on("cpu"), train_on("cuda")
    for _ in range(30):
        batch = here.batches.draw(torch.arange(20))
        losses = there.train_batch({name: tensor.to("cuda") for name, tensor in batch.items()})
        for name, loss in here.train_batch(batch).items():
            assert losses[name].item() == pytest.approx(loss.item(), rel=1e-3)


@with_gpu
def test_on_a_gpu_a_training_is_the_same_each_time_and_like_the_processors(train_on):
    here, there, again = (list(train_on(device).epochs()) for device in ("cpu", "cuda", "cuda"))
    assert there == again
    # The prior samples differ, and 50 other sets of them on a CPU change the losses by up to 0.01.
    for name in ("reconstruction_loss", "generator_loss"):
        for one, other in zip(here, there, strict=True):
            assert other[name] == pytest.approx(one[name], rel=0.03)


@with_gpu
def test_tf32_trains_as_float32_does_but_for_rounding(make_params, digits):
    params = make_params({"train_aae.batch_size": 20, "train_aae.epochs": 10})
    sizes = SIZES | {"hidden": (256, 256), "discriminator_hidden": (256, 256)}
    losses = {}
    for precision in ("float32", "tf32"):
        model = Model(Architecture(**sizes), seed=0).to("cuda")
        training = make("train_aae", model, params, digits[:45], digits[45:], precision)
        losses[precision] = list(training.epochs())
    for exact, rounded in zip(losses["float32"], losses["tf32"], strict=True):
        assert exact != rounded
        assert rounded == pytest.approx(exact, rel=2**-6)


@with_gpu
@pytest.mark.parametrize(("name", "arguments", "reference"), PRIORS, ids=PRIOR_NAMES)
def test_a_gpu_draws_samples_of_the_prior_itself_and_nothing_waits(name, arguments, reference):
    prior = make_prior(name, arguments).to("cuda")
    prior.sample(1, stream(0, "first use"))
    state = torch.cuda.get_rng_state()
    try:
        torch.cuda.set_sync_debug_mode("error")
        samples, again = (prior.sample(4000, stream(0, "test")) for _ in range(2))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert samples.device.type == "cuda"
    assert torch.equal(samples, again)
    assert torch.equal(torch.cuda.get_rng_state(), state)
    for dimension in samples.cpu().numpy().T:
        # A correct distribution fails in one of 10,000 seeds; the seed is fixed.
        assert scipy.stats.kstest(dimension, reference.cdf).pvalue > 1e-4


@with_gpu
def test_a_process_without_a_gpu_of_its_own_is_refused(monkeypatch):
    count = torch.cuda.device_count()
    monkeypatch.setenv("LOCAL_RANK", str(count))
    with pytest.raises(ParameterError, match=rf"device: 'cuda' .* machine, and there are {count};"):
        training_device("cuda")


@with_gpu
def test_a_training_that_diverges_on_a_gpu_is_named(train_on):
    training = train_on("cuda")
    for scheduler in training.schedulers.values():
        scheduler.base_lrs = [torch.tensor(1e30, device="cuda")]
    with pytest.raises(TrainingError, match=r"reconstruction_loss is nan in epoch 1, .* lower lea"):
        list(training.epochs())


@with_gpu
def test_outputs_are_where_the_inputs_are(digits):
    model = Model(Architecture(**SIZES), seed=0).to("cuda")
    for device in ("cpu", "cuda"):
        assert model.encode(digits.to(device)).device.type == device


@with_gpu
def test_in_an_epoch_nothing_waits_for_the_gpu(train_on):
    training = train_on("cuda")
    forbidden = []

    def forbid_waiting() -> None:
        # From the second of three steps to the third, with everything that the loop does between
        # them: in the first epoch without a recording, in the last one with it.
        wait = training.step % 3 != 1
        torch.cuda.set_sync_debug_mode("default" if wait else "error")
        forbidden.append(not wait)

    try:
        assert len(list(training.epochs(forbid_waiting))) == 10
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sum(forbidden) == 10


@with_gpu
def test_a_training_goes_on_from_another_devices_snapshot(train_on, tmp_path):
    first, second = train_on("cuda"), train_on("cpu")
    next(first.epochs())
    write_snapshot(tmp_path, first.step, first.state_dict(), {})
    second.load_state_dict(read_snapshot(next(tmp_path.glob("*.pt")))[0])
    assert second.step == first.step
    assert next(second.epochs())["epoch"] == 2
