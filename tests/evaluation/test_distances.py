"""Compares each distance with a known result and with an independent computation."""

import numpy as np
import ot
import pytest
import scipy.stats
from sklearn.metrics.pairwise import rbf_kernel

from aae.evaluation.distances import (
    BALL_NEIGHBOUR,
    Sample,
    c2st_accuracy,
    coverage_and_density,
    energy_distance,
    largest_ks_statistic,
    mmd2,
    sliced_wasserstein,
)


def sample(points: np.ndarray, directions: np.ndarray | None = None, bandwidth=1.0) -> Sample:
    points = np.asarray(points, dtype=float)
    if directions is None:
        directions = np.eye(points.shape[1])
    return Sample(points, directions, len(points), bandwidth)


def test_sliced_wasserstein_of_a_shift_is_known():
    """The projected samples move by the projected shift, whose mean square is |shift|²/d."""
    points = np.random.default_rng(0).normal(size=(500, 3))
    directions = ot.sliced.get_random_projections(3, 4000, seed=0)
    shifted = sample(points + np.array([3.0, 0.0, 4.0]), directions)
    found = sliced_wasserstein(sample(points, directions), shifted)
    # The mean of 4,000 squared cosines, each with mean 1/3 and variance 4/45.
    assert found == pytest.approx(5 / np.sqrt(3), rel=4 * np.sqrt(4 / 45 / 4000) * 3 / 2)


def test_sliced_wasserstein_is_pots():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(300, 2)), rng.gamma(2, size=(300, 2))
    directions = ot.sliced.get_random_projections(2, 20, seed=0)
    expected = ot.sliced_wasserstein_distance(first, second, projections=directions)
    found = sliced_wasserstein(sample(first, directions), sample(second, directions))
    assert found == pytest.approx(expected)


def test_energy_distance_of_two_points_is_twice_their_distance():
    first, second = np.zeros((5, 2)), np.tile([3.0, 4.0], (7, 1))
    assert energy_distance(sample(first), sample(second)) == pytest.approx(10)


def test_energy_distance_in_one_dimension_is_scipys():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(300, 1)), rng.gamma(2, size=(200, 1))
    expected = scipy.stats.energy_distance(first[:, 0], second[:, 0]) ** 2
    assert energy_distance(sample(first), sample(second)) == pytest.approx(expected)


def test_mmd2_of_two_far_points_is_two():
    """All kernels are 1 between a point and itself, and 0 between the two points."""
    first, second = sample(np.zeros((5, 2))), sample(np.full((5, 2), 1e3))
    assert mmd2(first, second) == pytest.approx(2)


def test_mmd2_is_the_unbiased_estimate_with_three_gaussian_kernels():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(50, 2)), rng.normal(0.5, size=(50, 2))

    def kernel(x, y):
        widths = (2.0, 1.0, 0.5)
        return np.mean([rbf_kernel(x, y, gamma=1 / (2 * w**2)) for w in widths], axis=0)

    def off_diagonal(matrix):
        return matrix[~np.eye(len(matrix), dtype=bool)].mean()

    among = off_diagonal(kernel(first, first)) + off_diagonal(kernel(second, second))
    expected = among - 2 * kernel(first, second).mean()
    found = mmd2(sample(first, bandwidth=2.0), sample(second, bandwidth=2.0))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("decimals", [8, 1], ids=["no ties", "ties"])
def test_ks_is_scipys_in_the_dimension_where_it_is_largest(decimals):
    rng = np.random.default_rng(0)
    first = rng.normal(size=(200, 3)).round(decimals)
    second = rng.normal([0, 0.5, -0.2], size=(150, 3)).round(decimals)
    expected = [
        scipy.stats.ks_2samp(x, y).statistic for x, y in zip(first.T, second.T, strict=True)
    ]
    found = largest_ks_statistic(sample(first).ordered, sample(second).ordered)
    assert found == pytest.approx(max(expected))
    assert expected.index(max(expected)) == 1


def test_the_classifier_guesses_or_knows():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 500, 2))
    # 1,000 guesses in folds that are not quite independent: five standard deviations.
    assert c2st_accuracy(first, second) == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(1000))
    assert c2st_accuracy(first, second + 20) == 1
    # One standard deviation apart in one dimension: the best classifier has an accuracy of 69 %.
    best = scipy.stats.norm.cdf(0.5)
    accuracy = c2st_accuracy(first, second + np.array([1.0, 0.0]))
    assert accuracy == pytest.approx(best, abs=5 * np.sqrt(best * (1 - best) / 1000))


def test_coverage_and_density_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    real, others = rng.normal(size=(60, 2)), rng.normal(0.7, 0.5, size=(40, 2))
    radii = [np.sort([np.linalg.norm(x - y) for y in real])[BALL_NEIGHBOUR] for x in real]
    inside = [
        [np.linalg.norm(y - x) <= r for x, r in zip(real, radii, strict=True)] for y in others
    ]
    found = coverage_and_density(sample(others).distances_to(sample(real)), sample(real).radii)
    assert found[0] == pytest.approx(np.any(inside, axis=0).mean())
    assert found[1] == pytest.approx(np.sum(inside) / (BALL_NEIGHBOUR * len(others)))


def test_coverage_is_none_far_away_and_as_expected_of_one_distribution():
    rng = np.random.default_rng(0)
    real, same = sample(rng.normal(size=(1000, 2))), sample(rng.normal(size=(1000, 2)))
    far = sample(rng.normal(100, size=(1000, 2)))
    assert coverage_and_density(far.distances_to(real), real.radii) == (0, 0)
    coverage, density = coverage_and_density(same.distances_to(real), real.radii)
    # Naeem et al. 2020, equations 9 and 10: density 1, coverage 1 - (1/2)^k for large samples. The
    # standard deviation of 1,000 shares of 0.97 is 0.0055; dependent neighbours increase it.
    assert coverage == pytest.approx(1 - 0.5**BALL_NEIGHBOUR, abs=0.03)
    assert density == pytest.approx(1, abs=0.1)
