"""Compares each measure of generated images with a known result and another computation."""

import numpy as np
import ot
import pytest
import scipy.linalg
import torch
from sklearn.neighbors import KernelDensity
from support import make_splits

from aae.evaluation import generation as module
from aae.evaluation.generation import (
    BALL_NEIGHBOUR,
    WINDOWS,
    GenerationTest,
    frechet_distance,
    mixture_samples,
    nearest_images,
    parzen_log_likelihoods,
    precision_and_recall,
)
from aae.evaluation.judge import Judge, train_judge
from aae.models import Architecture, Model
from aae.models.networks import pixels
from aae.params import EvalLatent

SETTINGS = EvalLatent(projections=20, references=2, draws=19, subset=60, judge_steps=100)


def test_frechet_distance_of_a_shift_is_its_square():
    features = np.random.default_rng(0).normal(size=(200, 3))
    shift = np.array([1.0, 2.0, 2.0])
    assert frechet_distance(features, features + shift) == pytest.approx(9)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_is_that_of_heusels_formula():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(100, 4)), rng.gamma(2, size=(150, 4)) @ rng.normal(size=(4, 4))
    covariances = np.cov(first.T), np.cov(second.T)
    product = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = np.sum((first.mean(0) - second.mean(0)) ** 2)
    expected += np.trace(covariances[0] + covariances[1] - 2 * product)
    assert frechet_distance(first, second) == pytest.approx(expected)
    means = first.mean(0), second.mean(0)
    pots = ot.gaussian.bures_wasserstein_distance(*means, *covariances)
    assert frechet_distance(first, second) == pytest.approx(pots**2)


def test_features_that_are_always_zero_do_no_harm():
    features = np.random.default_rng(0).normal(size=(50, 3)) * [1, 1, 0]
    assert frechet_distance(features, 2 * features) == pytest.approx(
        np.sum((features.mean(0)) ** 2) + np.trace(np.cov(features.T))
    )


def test_precision_and_recall_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    generated, real = rng.normal(0.5, 0.5, size=(50, 3)), rng.normal(size=(70, 3))

    def share(points, others):
        inside = 0
        for point in points:
            for other in others:
                radius = np.sort(np.linalg.norm(others - other, axis=1))[BALL_NEIGHBOUR]
                if np.linalg.norm(point - other) <= radius:
                    inside += 1
                    break
        return inside / len(points)

    found = precision_and_recall(generated, real)
    assert found == pytest.approx((share(generated, real), share(real, generated)))
    assert found[0] > found[1], "too narrow: precise, but not all is there"
    assert precision_and_recall(generated + 100, real) == (0, 0)


def test_parzen_windows_are_scikit_learns_at_the_best_width():
    rng = np.random.default_rng(0)
    centres, images, validation = rng.uniform(size=(3, 40, 9))
    widths = {
        width: KernelDensity(bandwidth=width).fit(centres).score_samples(validation).mean()
        for width in WINDOWS
    }
    best = max(widths, key=lambda width: widths[width])
    assert WINDOWS[0] < best < WINDOWS[-1], "not an end of the range"
    expected = KernelDensity(bandwidth=best).fit(centres).score_samples(images).mean()
    assert parzen_log_likelihoods(centres, images, validation).mean() == pytest.approx(expected)


def test_the_nearest_image_of_a_copy_is_the_original():
    generator = torch.Generator().manual_seed(0)
    others = torch.randint(256, (20, 1, 4, 4), generator=generator).to(torch.uint8)
    nearest, distances = nearest_images(pixels(others[[7, 3]]), others)
    assert nearest.tolist() == [7, 3]
    assert distances.tolist() == pytest.approx([0, 0], abs=1e-6)
    _, distances = nearest_images(pixels(others[[7]]) + 0.01, others)
    assert distances.tolist() == pytest.approx([0.01], abs=1e-5)


def test_nearest_images_are_the_same_in_parts(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    others = torch.randint(256, (50, 3, 4, 6), generator=generator).to(torch.uint8)
    images = torch.rand(20, 3, 4, 6, generator=generator)
    expected = nearest_images(images, others)
    monkeypatch.setattr(module, "MOST_VALUES", 7 * 3 * 4 * 6)
    found = nearest_images(images, others)
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1])


@pytest.fixture
def generation(splits) -> GenerationTest:
    return GenerationTest(splits, 3, SETTINGS, seed=0)


def test_copies_of_training_images_look_real_and_are_found_out(generation, splits):
    found = generation(pixels(splits["train"].images))
    assert found["generated_precision"] > 0.8
    assert found["generated_entropy"] == pytest.approx(np.log(3), abs=0.05)
    assert found["nearest_training_distance"] == pytest.approx(0, abs=1e-6)
    assert generation.real["nearest_training_distance"] > 0.05


def test_one_image_again_and_again_has_no_entropy_and_no_recall(generation, splits):
    found = generation(pixels(splits["test"].images[:1]).repeat(20, 1, 1, 1))
    assert found["generated_entropy"] == 0
    assert found["generated_recall"] < 0.1
    assert found["generated_frechet"] > 3 * generation.real["generated_frechet"]


def test_a_decoder_that_has_learnt_nothing_paints_nothing_real(generation):
    architecture = Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,))
    codes = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    found = generation(Model(architecture, seed=0).decode(codes))
    real = generation.real
    assert found.keys() == real.keys() - {"judge_accuracy"}
    assert found["generated_frechet"] > 3 * real["generated_frechet"]
    assert found["generated_precision"] < real["generated_precision"]
    assert found["parzen_log_likelihood"] < real["parzen_log_likelihood"]


def test_perfect_reconstructions_are_as_good_as_the_images(generation, splits):
    found = generation.of_reconstructions(pixels(splits["test"].images))
    assert found["reconstructed_frechet"] == pytest.approx(0, abs=1e-6)
    assert found["reconstructed_confidence"] == generation.real["generated_confidence"]


def test_samples_of_a_mixture_have_the_distribution_of_the_codes():
    """Codes in ten places with gaps in between, where the samples must not be."""
    generator = torch.Generator().manual_seed(0)
    places = 10 * torch.randn(10, 2, generator=generator)
    codes = places.repeat(200, 1) + 0.1 * torch.randn(2000, 2, generator=generator)
    samples = mixture_samples(codes, 1000, seed=0)
    assert samples.shape == (1000, 2)
    distances, nearest = torch.cdist(samples, places).min(1)
    assert distances.max() < 1
    # Five standard deviations of the binomial distribution
    counts = torch.bincount(nearest, minlength=10)
    assert (counts - 100).abs().max() < 5 * (1000 * 0.1 * 0.9) ** 0.5
    assert len(nearest[:100].unique()) == 10, "in random order"
    assert torch.equal(samples, mixture_samples(codes, 1000, seed=0))
    assert not torch.equal(samples, mixture_samples(codes, 1000, seed=1))


def test_samples_of_a_mixture_have_the_scale_of_the_codes():
    codes = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    expected = mixture_samples(codes, 100, seed=0)
    for factor in (2.0**-15, 2.0**15):
        found = mixture_samples(factor * codes, 100, seed=0) / factor
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_codes_on_a_plane_have_a_mixture():
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(500, 3, generator=generator) @ torch.randn(3, 16, generator=generator)
    for codes in (1e4 * flat, torch.ones(500, 2)):
        assert mixture_samples(codes, 100, seed=0).isfinite().all()


def test_the_judge_knows_its_classes_whatever_the_number_of_threads(generation, splits):
    assert generation.real["judge_accuracy"] > 0.9
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    again = GenerationTest(splits, 3, SETTINGS, seed=0)
    torch.set_num_threads(threads)
    assert again.real == generation.real
    for name, weights in generation.judge.state_dict().items():
        assert torch.equal(again.judge.state_dict()[name], weights)


@pytest.mark.parametrize(("shape", "rotations"), [((3, 8, 8), 4), ((1, 8, 12), 2)])
def test_the_judge_of_images_without_labels_tells_rotations(shape, rotations):
    splits = make_splits(shape, None)
    judge = train_judge(splits["train"], 0, 60, seed=0)
    assert judge.probabilities(splits["test"].images).shape == (20, rotations)
    assert judge.accuracy(splits["test"]) > 0.9
    upright = splits["test"].images
    assert (judge.probabilities(upright).argmax(1) == 0).float().mean() > 0.8
    turned = judge.probabilities(upright.rot90(2, (2, 3))).argmax(1)
    assert (turned == rotations // 2).float().mean() > 0.8


def test_the_judge_sees_at_most_64_pixels():
    generator = torch.Generator().manual_seed(0)
    judge = Judge((3, 128, 72), 5, generator)
    assert judge.features[-2].in_features == 32 * 16 * 16
    images = torch.rand(2, 3, 128, 72, generator=generator)
    assert judge(images).shape == (2, 5)
