import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.stats
import torch
from support import PRIOR_NAMES, PRIORS, make_prior

from aae.errors import ParameterError
from aae.seeding import stream

RING = {"components": 10, "radius": 5.0, "radial_std": 1.0, "tangential_std": 0.3}
ROLL = {"turns": 1.5, "radius": 10.0, "noise": 0.5}
# Torch can draw these if tensors have no values; it cannot draw a Beta.
WITHOUT_VALUES = [
    *((name, arguments) for name, arguments, _ in PRIORS if name != "Beta"),
    ("Pareto", {"scale": 1.0, "alpha": 3.0}),
    ("MultivariateNormal", {"loc": [0.0, 0.0], "covariance_matrix": np.eye(2).tolist()}),
    ("GaussianRing", RING),
    ("SwissRoll", ROLL),
]


@pytest.mark.parametrize(("name", "arguments", "reference"), PRIORS, ids=PRIOR_NAMES)
def test_samples_follow_the_distribution_of_that_name(name, arguments, reference):
    samples = make_prior(name, arguments).sample(4000, stream(0, "test")).numpy()
    assert samples.shape == (4000, 2)
    for dimension in samples.T:
        # A correct distribution fails in one of 10,000 seeds; the seed is fixed.
        assert scipy.stats.kstest(dimension, reference.cdf).pvalue > 1e-4
    assert abs(scipy.stats.spearmanr(*samples.T).statistic) < 4 / np.sqrt(4000)


@pytest.mark.parametrize(("name", "arguments", "reference"), PRIORS, ids=PRIOR_NAMES)
def test_density_and_quantiles_are_those_of_scipy(name, arguments, reference):
    points = reference.ppf([0.01, 0.2, 0.5, 0.7, 0.99])
    found = make_prior(name, arguments)
    density = found.density(torch.tensor(points, dtype=torch.float32), 1)
    np.testing.assert_allclose(density, reference.pdf(points), rtol=1e-4)
    probabilities = torch.tensor([0.05, 0.5, 0.9])
    quantiles = found.quantiles(probabilities)
    assert quantiles.shape == (3, 2)
    # Without an inverse cdf, quantiles come from a sample of 2^16: their ranks have a standard
    # deviation of at most 0.5 / 2^8 = 0.002 in probability.
    for dimension in quantiles.T:
        np.testing.assert_allclose(reference.cdf(dimension), probabilities, atol=0.008)


@pytest.mark.parametrize(("name", "arguments", "reference"), PRIORS, ids=PRIOR_NAMES)
def test_densities_of_bins_are_their_shares_of_the_prior(name, arguments, reference):
    low, high = reference.ppf([0.001, 0.999])
    far = 15 * (high - low)  # codes of an autoencoder may be anywhere
    for edges in (np.linspace(low, high, 41), np.linspace(low - far, high + far, 801)):
        found = (
            make_prior(name, arguments).bin_densities(torch.from_numpy(edges).float(), 1).numpy()
        )
        shares = np.diff(reference.cdf(edges))
        # If torch has no cdf, twenty points for each bin; the ends of a Beta are the worst case.
        np.testing.assert_allclose(found * np.diff(edges), shares, rtol=0.01, atol=2e-6)


def test_the_density_is_zero_outside_the_support():
    gamma = make_prior("Gamma", {"concentration": 2.0, "rate": 1.0})
    assert gamma.density(torch.tensor([-1.0, 1.0]), 0).tolist() == pytest.approx([0, np.exp(-1)])


@pytest.mark.parametrize(("name", "arguments", "reference"), PRIORS[:-1], ids=PRIOR_NAMES[:-1])
def test_mean_and_scale_are_the_moments_where_they_exist(name, arguments, reference):
    found = make_prior(name, arguments, latent_dim=3)
    np.testing.assert_allclose(found.mean, [reference.mean()] * 3, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.scale, [reference.std()] * 3, rtol=1e-5)


def test_without_moments_mean_and_scale_are_the_median_and_from_the_interquartile_range():
    found = make_prior("Cauchy", {"loc": 3.0, "scale": 1.0})
    np.testing.assert_allclose(found.mean, [3, 3], atol=0.03)
    np.testing.assert_allclose(found.scale, [2 / 1.349] * 2, rtol=0.03)


def test_samples_are_determined_by_the_generator_and_leave_the_global_one_alone():
    gamma = make_prior("Gamma", {"concentration": 2.0, "rate": 1.0})
    torch.manual_seed(1)
    first = gamma.sample(10, stream(0, "test"))
    state = torch.get_rng_state()
    torch.manual_seed(2)
    generator = stream(0, "test")
    assert torch.equal(gamma.sample(10, generator), first)
    assert not torch.equal(gamma.sample(10, generator), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_samples_are_the_same_in_several_threads_at_once():
    gamma = make_prior("Gamma", {"concentration": 2.0, "rate": 1.0})
    expected = [gamma.sample(100, stream(seed, "test")) for seed in range(1000)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda seed: gamma.sample(100, stream(seed, "test")), range(1000)))
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize(("name", "arguments"), WITHOUT_VALUES)
def test_a_device_draws_the_samples_itself_and_nothing_looks_at_them(name, arguments):
    # Tensors on the device "meta" have shapes but no values: a CPU tensor among them is an error,
    # and so is reading a value, for which a training would wait for a GPU.
    there = make_prior(name, arguments).to("meta")
    samples = there.sample(5, stream(0, "test"))
    assert samples.shape == (5, 2)
    assert {samples.device.type, there.mean.device.type, there.scale.device.type} == {"meta"}


@pytest.mark.parametrize(("name", "arguments", "reference"), PRIORS, ids=PRIOR_NAMES)
def test_the_prior_of_a_device_is_the_same_one(name, arguments, reference):
    here = make_prior(name, arguments)
    there = here.to("cpu")
    samples = (found.sample(10, stream(0, "test")) for found in (here, there))
    assert torch.equal(*samples)
    point = torch.full((1,), reference.median())
    assert there.density(point, 0) == here.density(point, 0)


def test_a_multivariate_prior_keeps_its_dependence():
    covariance = [[1.0, 0.8], [0.8, 1.0]]
    found = make_prior("MultivariateNormal", {"loc": [0.0, 3.0], "covariance_matrix": covariance})
    samples = found.sample(4000, stream(0, "test"))
    # Fisher's z of a correlation has a standard deviation of 1 / sqrt(n - 3).
    z = torch.atanh(torch.corrcoef(samples.T)[0, 1]).item()
    assert abs(z - np.arctanh(0.8)) < 4 / np.sqrt(3997)
    np.testing.assert_allclose(found.mean, [0, 3])
    # The marginals come from a sample of 2^16 in 100 bins that are about 0.09 wide.
    density = found.density(torch.tensor([2.0, 3.0, 4.0, 100.0]), 1)
    np.testing.assert_allclose(density, scipy.stats.norm(3).pdf([2, 3, 4, 100]), atol=0.05)


def test_the_density_of_a_multivariate_prior_is_zero_outside_its_support():
    found = make_prior("Dirichlet", {"concentration": [1.0, 1.0]})
    density = found.density(torch.tensor([-0.05, 0.5, 1.05]), 0)
    np.testing.assert_allclose(density, [0, 1, 0], atol=0.2)


def test_ranks_are_the_distribution_function():
    gamma = make_prior("Gamma", {"concentration": 2.0, "rate": 1.0})
    codes = torch.tensor([[-1.0, 1.0], [2.0, 100.0]])
    np.testing.assert_allclose(gamma.ranks(codes), scipy.stats.gamma(2).cdf(codes), atol=0.01)


@pytest.mark.parametrize(("name", "arguments", "reference"), PRIORS, ids=PRIOR_NAMES)
def test_the_support_is_that_of_scipy(name, arguments, reference):
    for found, end in zip(make_prior(name, arguments).support, reference.support(), strict=True):
        assert found.tolist() == [end, end]


def test_the_support_of_a_multivariate_prior_has_an_end_in_each_dimension():
    for name, arguments, ends in (
        ("Dirichlet", {"concentration": [1.0, 1.0, 1.0]}, (0.0, 1.0)),
        ("MultivariateNormal", {"loc": [0.0] * 3, "covariance_matrix": np.eye(3).tolist()},
         (-math.inf, math.inf)),
    ):  # fmt: skip
        low, high = make_prior(name, arguments, latent_dim=3).support
        assert (low.tolist(), high.tolist()) == ([ends[0]] * 3, [ends[1]] * 3)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_the_grid_of_independent_dimensions_is_that_of_all_quantiles(latent_dim):
    points = 5 ** (2 // latent_dim)
    expected = scipy.stats.gamma(2).ppf((np.arange(points) + 0.5) / points)
    if latent_dim == 2:
        expected = [[x, y] for x in expected for y in expected]
    gamma = make_prior("Gamma", {"concentration": 2.0, "rate": 1.0}, latent_dim)
    # From a sample of 2^16, as above: 0.008 in probability, over a density of at least 0.04.
    found = gamma.grid(5)
    assert found.shape == (25, latent_dim)
    np.testing.assert_allclose(found.squeeze(1), expected, atol=0.2)


def radial_and_tangential(points: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of points of RING along and across the nearest component's radius."""
    x, y = points.double().numpy().T
    component = np.round(np.arctan2(y, x) / (2 * np.pi / 10)) * (2 * np.pi / 10)
    along = x * np.cos(component) + y * np.sin(component)
    return along, y * np.cos(component) - x * np.sin(component)


def test_the_ring_is_of_equally_probable_gaussians_elongated_along_the_radius():
    points = make_prior("GaussianRing", RING).sample(5000, stream(0, "test"))
    along, across = radial_and_tangential(points)
    # The components meet within two units of the origin, where 0.1 % of the points are.
    assert scipy.stats.kstest(along, scipy.stats.norm(5, 1).cdf).pvalue > 1e-4
    assert scipy.stats.kstest(across, scipy.stats.norm(0, 0.3).cdf).pvalue > 1e-4
    angle = np.arctan2(*points.double().numpy().T[::-1])
    counts = np.bincount(np.round(angle / (2 * np.pi / 10)).astype(int) % 10)
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_the_roll_winds_outwards_at_an_even_density():
    points = make_prior("SwissRoll", ROLL | {"noise": 0.0}).sample(5000, stream(0, "test")).double()
    radius = points.norm(dim=1).numpy()
    angle = 2 * np.pi * 1.5 * radius / 10
    spiral = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    np.testing.assert_allclose(points, spiral, atol=1e-4)
    # The length of the spiral up to radius r grows as r².
    assert scipy.stats.kstest((radius / 10) ** 2, scipy.stats.uniform.cdf).pvalue > 1e-4


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("GaussianRing", RING), ("GaussianRing", RING | {"components": 2}), ("SwissRoll", ROLL)],
)
def test_mean_and_scale_of_our_own_priors_are_those_of_their_samples(name, arguments):
    found = make_prior(name, arguments)
    points = found.sample(100_000, stream(0, "test")).double()
    error = points.std(0) / np.sqrt(len(points))
    assert ((points.mean(0) - found.mean).abs() < 4 * error).all()
    # The standard error of a standard deviation, without assuming a kurtosis.
    spread = ((points - points.mean(0)) ** 2).std(0) / np.sqrt(len(points)) / (2 * points.std(0))
    assert ((points.std(0) - found.scale).abs() < 4 * spread).all()


@pytest.mark.parametrize(("name", "arguments"), [("GaussianRing", RING), ("SwissRoll", ROLL)])
def test_the_grid_of_dependent_dimensions_lies_in_the_prior(name, arguments):
    found = make_prior(name, arguments)
    grid = found.grid(15)
    assert grid.shape == (225, 2)
    # No code of the grid may be further from a large sample than samples are from each other.
    sample = found.sample(20_000, stream(0, "test"))
    nearest = torch.cdist(grid, sample).min(1).values
    assert nearest.max() < torch.cdist(sample[:1000], sample[1000:]).min(1).values.max()
    # Column by column from the left, and each from below.
    columns = grid.view(15, 15, 2)
    assert (columns[1:, :, 0].min(1).values >= columns[:-1, :, 0].max(1).values).all()
    assert (columns[:, 1:, 1] >= columns[:, :-1, 1]).all()
    # Each half-plane must contain the prior's share of the 225 codes of equal weight.
    for dimension in range(2):
        share = (grid[:, dimension] > found.mean[dimension]).double().mean()
        expected = (sample[:, dimension] > found.mean[dimension]).double().mean()
        assert abs(share - expected) < 0.05


@pytest.mark.parametrize(("name", "arguments"), [("GaussianRing", RING), ("SwissRoll", ROLL)])
def test_a_prior_of_two_dimensions_says_so_when_asked_for_another(name, arguments):
    with pytest.raises(ParameterError, match=f"{name} has 2 dimensions and latent_dim is 3"):
        make_prior(name, arguments, latent_dim=3)


@pytest.mark.parametrize(
    ("name", "arguments", "latent_dim"),
    [
        *((name, arguments, 2) for name, arguments, _ in PRIORS if name != "Uniform"),
        ("GaussianRing", RING, 2),
        ("SwissRoll", ROLL, 2),
        ("SwissRoll", ROLL | {"noise": 0.0}, 2),  # has no density
        ("Dirichlet", {"concentration": [0.5] * 16}, 16),
        ("RelaxedOneHotCategorical", {"temperature": 0.5, "probs": [0.2, 0.3, 0.5]}, 3),
    ],
)
def test_the_typicality_of_codes_that_follow_the_prior_is_uniform(name, arguments, latent_dim):
    prior = make_prior(name, arguments, latent_dim)
    found = prior.typicality(prior.sample(4000, stream(0, "test")))
    assert scipy.stats.kstest(found.numpy(), "uniform").pvalue > 1e-4
    outside = torch.stack([torch.full((latent_dim,), x) for x in (-1e6, 1e6, math.nan)])
    assert prior.typicality(outside).tolist() == [0, 0, 0]


def test_all_codes_within_a_uniform_prior_are_equally_typical():
    prior = make_prior("Uniform", {"low": -5.0, "high": 5.0})
    codes = torch.tensor([[0.0, 0.0], [4.9, -4.9], [0.0, 5.1]])
    assert prior.typicality(codes).tolist() == [1, 1, 0]
    assert prior.typicality(codes[:0]).shape == (0,)


def test_shares_whose_sum_is_rounded_keep_their_typicality():
    prior = make_prior("Dirichlet", {"concentration": [2.0, 3.0, 4.0]}, 3)
    codes = prior.sample(100, stream(0, "test"))
    found = prior.typicality(codes * (1 + 1e-5))
    torch.testing.assert_close(found, prior.typicality(codes), atol=1e-3, rtol=0)
    assert prior.typicality(codes * 1.1).tolist() == [0] * 100


def test_the_middle_of_a_ring_is_not_typical():
    typicality = make_prior("GaussianRing", RING).typicality(torch.tensor([[0.0, 0.0], [5.0, 0.0]]))
    assert typicality[0] < 0.01
    assert typicality[1] > 0.99


@pytest.mark.parametrize(("name", "arguments"), [("GaussianRing", RING), ("SwissRoll", ROLL)])
def test_densities_in_the_plane_integrate_to_one(name, arguments):
    line = torch.linspace(-14, 14, 160, dtype=torch.double)
    found = make_prior(name, arguments).distribution.log_prob(torch.cartesian_prod(line, line))
    assert found.exp().sum() * (line[1] - line[0]) ** 2 == pytest.approx(1, abs=1e-4)
