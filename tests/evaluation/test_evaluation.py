import pytest
import torch
from sklearn.metrics import silhouette_score

from aae.priors.distributions import make_distribution
from aae.evaluation.evaluation import Evaluation, meaning
from aae.models.networks import Architecture, Model, apply, pixels
from aae.params import EvalLatent
from aae.priors.prior import Prior
from aae.report.page import TABLE
from aae.seeding import stream

SETTINGS = EvalLatent(projections=20, references=2, draws=19, subset=60, judge_steps=20)
# The keys that users rely on.
CONTRACT = {
    "reconstruction_mse", "sliced_wasserstein", "match_ratio", "energy_distance", "mmd2",
    "ks_statistic", "c2st_accuracy", "prior_coverage", "knn_accuracy", "generated_frechet",
    "generated_confidence", "floor", "p_value", "follows_prior",
}  # fmt: skip


@pytest.fixture
def evaluation(splits) -> Evaluation:
    prior = Prior(make_distribution("Normal", {"loc": 0.0, "scale": 1.0}), 2)
    return Evaluation(splits, "abc", prior, SETTINGS, seed=0)


@pytest.fixture
def model() -> Model:
    return Model(Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,)), seed=0)


def test_an_evaluation_has_every_key(evaluation, model):
    found = evaluation(model)
    assert found.keys() >= CONTRACT
    tests = evaluation.prior_test.TESTS
    assert found["floor"].keys() >= tests.keys()
    assert found["p_value"].keys() == tests.keys() | {"all"}
    assert found == evaluation(model), "the same to the last digit"


def test_every_measure_has_a_line_on_the_page(evaluation, model):
    shown = {measure.key for _, _, measures in TABLE for measure in measures}
    assert shown == evaluation(model).keys() - {"floor", "p_value", "follows_prior"}


def test_reconstruction_error_is_per_pixel(evaluation, model):
    with torch.no_grad():  # a decoder that paints everything mid-grey
        for parameter in model.decoder.parameters():
            parameter.zero_()
    images = evaluation.splits["test"].images
    expected = ((images.double() / 255 - 0.5) ** 2).mean().item()
    assert evaluation(model)["reconstruction_mse"] == pytest.approx(expected, rel=1e-6)


def test_held_out_images_are_what_is_measured(evaluation, model):
    train, test = (evaluation.splits[name] for name in ("train", "test"))
    codes, train_codes = (apply(model.encoder, part.images) for part in (test, train))
    reconstructions = apply(model.decoder, codes)
    squares = (reconstructions - pixels(test.images)).square()
    expected = {
        **evaluation.prior_test(codes),
        **meaning(train_codes, train.labels, codes, test.labels, SETTINGS.subset),
        **evaluation.generation(model.decoder, reconstructions),
    }
    found = evaluation(model)
    assert found.pop("reconstruction_mse") == pytest.approx(squares.mean().item(), rel=1e-6)
    assert found == expected


def test_codes_that_are_their_classes_keep_all_meaning_and_noise_keeps_none():
    generator = stream(0, "codes")
    labels = torch.arange(1000) % 10
    angles = torch.arange(10) * 2 * torch.pi / 10
    centres = 20 * torch.stack([angles.cos(), angles.sin()], dim=1)
    noise = torch.randn(2000, 2, generator=generator)
    apart = centres[labels].repeat(2, 1) + 0.1 * noise
    found = meaning(apart[:1000], labels, apart[1000:], labels, 1000)
    assert found["knn_accuracy"] == found["probe_accuracy"] == 1
    expected = silhouette_score(apart[1000:].numpy(), labels.numpy())
    assert found["silhouette"] == pytest.approx(expected)
    found = meaning(noise[:1000], labels, noise[1000:], labels, 1000)
    # A guess is right in one of ten of 1,000 cases: five standard deviations.
    for name in ("knn_accuracy", "probe_accuracy"):
        assert found[name] == pytest.approx(0.1, abs=5 * (0.1 * 0.9 / 1000) ** 0.5)
    assert found["silhouette"] < 0
