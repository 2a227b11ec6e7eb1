import numpy as np
import pytest
import scipy.stats
import torch

from aae.priors import Prior, make_distribution
from aae.seeding import stream

# Each prior with SciPy's distribution of the same name.
PRIORS = [
    ("Normal", {"loc": 1.0, "scale": 5.0}, scipy.stats.norm(1, 5)),
    ("Uniform", {"low": -5.0, "high": 5.0}, scipy.stats.uniform(-5, 10)),
    ("Gamma", {"concentration": 2.0, "rate": 0.5}, scipy.stats.gamma(2, scale=2)),
    ("Laplace", {"loc": 0.0, "scale": 2.0}, scipy.stats.laplace(0, 2)),
    ("Exponential", {"rate": 0.5}, scipy.stats.expon(scale=2)),
    ("Beta", {"concentration1": 0.5, "concentration0": 0.5}, scipy.stats.beta(0.5, 0.5)),
    ("StudentT", {"df": 5.0}, scipy.stats.t(5)),
    ("Cauchy", {"loc": 3.0, "scale": 1.0}, scipy.stats.cauchy(3, 1)),
]
NAMES = [name for name, _, _ in PRIORS]


def prior(name: str, arguments: dict, latent_dim: int = 2) -> Prior:
    return Prior(make_distribution(name, arguments), latent_dim)


@pytest.mark.parametrize(("name", "arguments", "reference"), PRIORS, ids=NAMES)
def test_samples_follow_the_distribution_of_that_name(name, arguments, reference):
    samples = prior(name, arguments).sample(4000, stream(0, "test")).numpy()
    assert samples.shape == (4000, 2)
    for dimension in samples.T:
        # A true distribution fails once in 10,000 seeds; the seed is fixed.
        assert scipy.stats.kstest(dimension, reference.cdf).pvalue > 1e-4
    assert abs(scipy.stats.spearmanr(*samples.T).statistic) < 4 / np.sqrt(4000)


@pytest.mark.parametrize(("name", "arguments", "reference"), PRIORS, ids=NAMES)
def test_density_and_quantiles_are_those_of_scipy(name, arguments, reference):
    points = reference.ppf([0.01, 0.2, 0.5, 0.7, 0.99])
    found = prior(name, arguments)
    density = found.density(torch.tensor(points, dtype=torch.float32), 1)
    np.testing.assert_allclose(density, reference.pdf(points), rtol=1e-4)
    probabilities = torch.tensor([0.05, 0.5, 0.9])
    quantiles = found.quantiles(probabilities)
    assert quantiles.shape == (3, 2)
    # From a sample of 2^16 where there is no inverse: its quantile's ranks have a standard
    # deviation of at most 0.5 / 2^8 = 0.002 in probability.
    for dimension in quantiles.T:
        np.testing.assert_allclose(reference.cdf(dimension), probabilities, atol=0.008)


def test_the_density_is_zero_outside_the_support():
    gamma = prior("Gamma", {"concentration": 2.0, "rate": 1.0})
    assert gamma.density(torch.tensor([-1.0, 1.0]), 0).tolist() == pytest.approx([0, np.exp(-1)])


@pytest.mark.parametrize(("name", "arguments", "reference"), PRIORS[:-1], ids=NAMES[:-1])
def test_mean_and_scale_are_the_moments_where_they_exist(name, arguments, reference):
    found = prior(name, arguments, latent_dim=3)
    np.testing.assert_allclose(found.mean, [reference.mean()] * 3, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.scale, [reference.std()] * 3, rtol=1e-5)


def test_without_moments_mean_and_scale_are_the_median_and_from_the_interquartile_range():
    found = prior("Cauchy", {"loc": 3.0, "scale": 1.0})
    np.testing.assert_allclose(found.mean, [3, 3], atol=0.03)
    np.testing.assert_allclose(found.scale, [2 / 1.349] * 2, rtol=0.03)


def test_samples_are_determined_by_the_generator_and_leave_the_global_one_alone():
    gamma = prior("Gamma", {"concentration": 2.0, "rate": 1.0})
    torch.manual_seed(1)
    first = gamma.sample(10, stream(0, "test"))
    state = torch.get_rng_state()
    torch.manual_seed(2)
    generator = stream(0, "test")
    assert torch.equal(gamma.sample(10, generator), first)
    assert not torch.equal(gamma.sample(10, generator), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_multivariate_prior_keeps_its_dependence():
    covariance = [[1.0, 0.8], [0.8, 1.0]]
    found = prior("MultivariateNormal", {"loc": [0.0, 3.0], "covariance_matrix": covariance})
    samples = found.sample(4000, stream(0, "test"))
    # Fisher's z of a correlation has a standard deviation of 1 / sqrt(n - 3).
    z = torch.atanh(torch.corrcoef(samples.T)[0, 1]).item()
    assert abs(z - np.arctanh(0.8)) < 4 / np.sqrt(3997)
    np.testing.assert_allclose(found.mean, [0, 3])
    # Marginals from a sample of 2^16 in 100 bins about 0.09 wide.
    density = found.density(torch.tensor([2.0, 3.0, 4.0, 100.0]), 1)
    np.testing.assert_allclose(density, scipy.stats.norm(3).pdf([2, 3, 4, 100]), atol=0.05)


def test_the_density_of_a_multivariate_prior_is_zero_outside_its_support():
    found = prior("Dirichlet", {"concentration": [1.0, 1.0]})
    density = found.density(torch.tensor([-0.05, 0.5, 1.05]), 0)
    np.testing.assert_allclose(density, [0, 1, 0], atol=0.2)


def test_ranks_are_the_distribution_function():
    gamma = prior("Gamma", {"concentration": 2.0, "rate": 1.0})
    codes = torch.tensor([[-1.0, 1.0], [2.0, 100.0]])
    np.testing.assert_allclose(gamma.ranks(codes), scipy.stats.gamma(2).cdf(codes), atol=0.01)
