"""Trainings that use labels, or find clusters."""

import copy

import pytest
import torch
import torch.nn.functional as F
from support import (
    UNCHANGED,
    check_same_bytes_also_after_a_kill,
    make_digits,
    make_training,
    weights,
)

from aae.data import Images, known_labels
from aae.params import Params
from aae.training import Training, adversarial_training, centre
from aae.training.phases import Step

SMALL = {"network.hidden": [32], "network.discriminator_hidden": [32], "labels.clusters": 4}
SETTINGS = {"train_aae.batch_size": 20, "train_aae.epochs": 3, "train_aae.init": "scratch"}
# What each variant needs, besides `labels.use`.
VARIANTS = {
    "prior": {"prior": "swiss_roll"},
    "decoder": {},
    "semi-supervised": {},
    "clusters": {},
}
PHASES = {
    "reconstruction": {"encoder", "decoder"},
    "discriminator": {"discriminator"},
    "generator": {"encoder"},
    "category_discriminator": {"category_discriminator"},
    "category_generator": {"encoder"},
    "classification": {"encoder"},
}
OF_VARIANT = {
    "prior": list(PHASES)[:3],
    "decoder": list(PHASES)[:3],
    "clusters": list(PHASES)[:5],
    "semi-supervised": list(PHASES),
}
EACH_PHASE = [(use, name) for use, names in OF_VARIANT.items() for name in names]


@pytest.fixture
def images() -> Images:
    return Images(make_digits(60), (torch.arange(60) % 3).to(torch.uint8))


@pytest.fixture
def make(make_params, images):
    """Return a function that makes the training of a variant, at its start."""

    def training(use: str, train: Images = images, **changes) -> Training:
        changes = {key.replace("__", "."): value for key, value in changes.items()}
        params = make_params({**SMALL, **SETTINGS, **VARIANTS[use], "labels.use": use, **changes})
        return make_from(params, train)

    return training


def make_from(params: Params, train: Images) -> Training:
    validation = Images(make_digits(15), (torch.arange(15) % 3).to(torch.uint8))
    known = known_labels(train, validation, "abc", params)
    return adversarial_training(params, train.images, validation.images, None, known)


@pytest.mark.parametrize(("use", "name"), EACH_PHASE)
def test_a_phase_changes_its_own_networks_and_lowers_its_loss(make, use, name):
    training = make(use, **{key.replace(".", "__"): value for key, value in UNCHANGED.items()})
    assert [phase.name for phase in training.phases] == OF_VARIANT[use]
    (phase,) = (phase for phase in training.phases if phase.name == name)
    batch = training.batches.draw(torch.arange(20))
    before = copy.deepcopy(training.model.state_dict())
    losses = [training.update(phase, Step(training.model, batch)).item() for _ in range(20)]
    changed = {
        key.split(".")[0]
        for key, value in training.model.state_dict().items()
        if not torch.equal(value, before[key])
    }
    assert changed == PHASES[name]
    assert losses[-1] < losses[0]


def test_the_losses_are_those_of_the_paper(make):
    training = make("semi-supervised", train_aae__category_gradient_penalty=0.0)
    model, batch = training.model, training.batches.draw(torch.arange(20))
    _, logits = model.encoder.heads(batch["regularised_inputs"], batch["regularised_noise"])
    real = model.category_discriminator(batch["category_samples"][:, 0]).sigmoid()
    fake = model.category_discriminator(logits.softmax(1)).sigmoid()
    codes, logits = model.encoder.heads(batch["inputs"])
    decoded = model.decoder.layers(torch.cat([codes, logits.softmax(1)], 1)).reshape(20, 1, 4, 4)
    _, labelled = model.encoder.heads(batch["labelled_inputs"])
    expected = {
        "category_discriminator": -(real.log().mean() + (1 - fake).log().mean()),
        "category_generator": -fake.log().mean(),
        "reconstruction": (decoded - batch["targets"]).square().mean(),
        "classification": F.cross_entropy(labelled, batch["labelled_classes"]),
    }
    for phase in training.phases:
        if phase.name in expected:
            loss = phase.loss(Step(model, batch)).value
            torch.testing.assert_close(loss, expected[phase.name])


def test_each_phase_has_the_settings_of_its_own(make):
    """Each setting is changed alone; the phases that differ afterwards are named."""
    first = dict(settings_of(make("semi-supervised")))
    for name in first:
        changed = make("semi-supervised", **{f"train_aae__learning_rate__{name}": 0.123})
        assert settings_of(changed) == [
            (other, (0.123, *rest) if other == name else (rate, *rest))
            for other, (rate, *rest) in first.items()
        ]
    for name, key in (
        ("discriminator", "gradient_penalty"),
        ("category_discriminator", "category_gradient_penalty"),
    ):
        changed = dict(settings_of(make("semi-supervised", **{f"train_aae__{key}": 0.0})))
        assert changed[name][1] == 0 < first[name][1]
        assert {other for other in first if changed[other] != first[other]} == {name}


def settings_of(training: Training) -> list[tuple[str, tuple[float, float]]]:
    """The learning rate of each phase, and the penalty of its loss on one batch."""
    step = Step(training.model, training.batches.draw(torch.arange(20)))
    return [
        (
            phase.name,
            (phase.learning_rate, float(torch.as_tensor(phase.loss(step).penalty).detach())),
        )
        for phase in training.phases
    ]


def test_samples_of_the_categories_are_one_hot_and_equally_probable(make):
    training = make("clusters")
    drawn = [training.batches.draw(torch.arange(60))["category_samples"] for _ in range(50)]
    samples = torch.cat(drawn).flatten(0, 1)
    assert set(samples.unique().tolist()) == {0.0, 1.0}
    assert (samples.sum(1) == 1).all()
    # Of 6,000 samples, the share of a cluster has a standard deviation of 0.0056.
    assert ((samples.mean(0) - 0.25).abs() < 4 * 0.0056).all()


def test_prior_samples_are_of_the_part_of_the_class(make, images):
    training = make("prior")
    batch = training.batches.draw(torch.arange(60))
    units = batch["prior_samples"]
    classes = batch["classes"]
    assert torch.equal(classes[:, :3].argmax(1), images.labels.long())
    assert (classes[:, 3] == 0).all()
    codes = training.model.units.to_codes(units.flatten(0, 1))
    # The radius of the roll grows with the square root of the share of its length.
    share = (codes.norm(dim=1) / 10).square().reshape(60, -1)
    within = (share * 3 - images.labels[:, None].float() - 0.5).abs() < 0.5
    assert within.float().mean() > 0.8  # noise moves some over the end of their stretch
    unknown = make("prior", labels__count=3)
    batch = unknown.batches.draw(torch.arange(60))
    assert (batch["classes"][:, 3] == 1).sum() == 57
    assert (batch["classes"].sum(1) == 1).all()


def test_a_decoder_is_given_the_known_labels_only(make, images):
    batch = make("decoder").batches.draw(torch.arange(60))
    assert torch.equal(batch["labels"], F.one_hot(images.labels.long(), 3).float())
    few = make("decoder", labels__count=6).batches.draw(torch.arange(60))["labels"]
    assert few.sum(0).tolist() == [2, 2, 2]


@pytest.mark.parametrize("use", ["decoder", "semi-supervised", "clusters"])
def test_a_decoder_that_takes_categories_starts_from_random_weights(make, use):
    chosen = make(use, train_aae__init="ae").model.state_dict()
    scratch = make(use, train_aae__init="scratch").model.state_dict()
    assert all(torch.equal(chosen[name], scratch[name]) for name in scratch)


@pytest.mark.parametrize("use", VARIANTS)
def test_a_training_is_the_same_each_time_also_after_a_kill(make, use):
    check_same_bytes_also_after_a_kill(lambda: make(use), step=4)


@pytest.mark.parametrize("use", ["prior", "decoder", "semi-supervised"])
def test_labels_that_are_not_among_the_known_ones_change_nothing(make, images, use):
    count = 12
    known = make(use, labels__count=count).batches.known
    unknown = known.train < 0
    assert (~unknown).sum() == count
    # In the random order in which known labels are chosen, each of these images comes when its
    # class is full. Then the class that is full first is full too, so these images stay unknown.
    first = next(
        label
        for label in range(3)
        if torch.equal(make(use, relabelled(images, unknown, label), labels__count=count)
                       .batches.known.train, known.train)
    )  # fmt: skip
    trainings = [
        make(use, train, labels__count=count)
        for train in (images, relabelled(images, unknown, first))
    ]
    results = [(list(training.epochs()), weights(training)) for training in trainings]
    assert results[0] == results[1]


def relabelled(images: Images, rows: torch.Tensor, label: int) -> Images:
    labels = images.labels.clone()
    labels[rows] = label
    return Images(images.images, labels)


@pytest.mark.parametrize("use", VARIANTS)
@pytest.mark.parametrize("kind", ["gaussian", "universal"])
def test_a_step_has_all_of_its_tensors_on_the_device_of_the_model(make, make_params, use, kind):
    # Tensors on the device "meta" have no values: a step that reads one fails, as it would in the
    # recording of a step on a GPU.
    changes = {"labels.use": use, "posterior.kind": kind, "train_aae.batch_size": 20}
    params = make_params({**SMALL, **VARIANTS[use], **changes})
    model, known = make(use, posterior__kind=kind).model.to("meta"), make(use).batches.known
    images = make_digits(60), make_digits(15)
    training = make_training("train_aae", model, params, *images, known=known)
    losses = training.train_batch(training.batches.draw(torch.arange(20))) | training.validate()
    assert {loss.device.type for loss in losses.values()} == {"meta"}


def test_with_parts_of_the_prior_codes_have_no_fixed_noise_and_are_not_centred(make, images):
    model = make("prior").model
    assert model.architecture.posterior.kind == "deterministic"
    assert (
        make("prior", posterior__kind="universal").model.architecture.posterior.kind
        != "deterministic"
    )
    before = copy.deepcopy(model.state_dict())
    centre(model, images.images)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with_code_alone = make("decoder").model
    centre(with_code_alone, images.images)
    units = with_code_alone.units.to_units(with_code_alone.encode(images.images))
    torch.testing.assert_close(units.mean(0), torch.zeros(2), atol=1e-4, rtol=0)


def test_places_are_learnt_and_added_to_the_style(make):
    training = make("clusters", labels__places=True)
    model = training.model
    assert model.decoder.places.weight.shape == (2, 4)
    before = model.decoder.places.weight.clone()
    list(training.epochs())
    assert not torch.equal(model.decoder.places.weight, before)
    codes, labels = torch.zeros(4, 2), torch.arange(4)
    units = model.units.to_units(codes) + model.decoder.places.weight.T
    expected = model.decoder.layers(units).reshape(4, 1, 4, 4)
    torch.testing.assert_close(model.decode(codes, labels), expected.detach())
