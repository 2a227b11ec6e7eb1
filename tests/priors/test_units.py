"""The map between units and codes: N(0, I) becomes the prior, and back."""

import pytest
import scipy.stats
import torch
from support import PRIORS, make_prior

from aae.models import Architecture, Model
from aae.priors.units import REACH, gaussian_units, identity

COUNT = 20_000
# A Kolmogorov-Smirnov statistic that one in a million samples of a correct distribution exceeds.
LARGEST = scipy.stats.kstwo.isf(1e-6, COUNT)
MULTIVARIATE = [
    ("MultivariateNormal", {"loc": [1.0, 2.0], "covariance_matrix": [[4.0, 1.9], [1.9, 1.0]]}),
    ("LowRankMultivariateNormal", {
        "loc": [0.0, 0.0], "cov_factor": [[1.0], [2.0]], "cov_diag": [0.1, 0.1]
    }),
    ("GaussianRing", {"components": 10, "radius": 5.0, "radial_std": 1.25, "tangential_std": 0.4}),
    ("GaussianRing", {"components": 3, "radius": 1.0, "radial_std": 1.0, "tangential_std": 1.0}),
    ("SwissRoll", {"turns": 1.5, "radius": 10.0, "noise": 0.5}),
    ("SwissRoll", {"turns": 0.3, "radius": 1.0, "noise": 0.5}),
    ("Dirichlet", {"concentration": [0.5, 1.0, 2.0]}),
    ("LogisticNormal", {"loc": [0.0, 1.0], "scale": [1.0, 2.0]}),
    ("RelaxedOneHotCategorical", {"temperature": 1.0, "probs": [0.2, 0.3, 0.5]}),
]  # fmt: skip
ALL = [*((name, arguments) for name, arguments, _ in PRIORS), *MULTIVARIATE]


def dimensions(name: str, arguments: dict) -> int:
    """Number of dimensions of a code: that of the distribution, or two."""
    simplex = {"Dirichlet": "concentration", "RelaxedOneHotCategorical": "probs"}
    if name == "LogisticNormal":
        return len(arguments["loc"]) + 1
    return len(arguments[simplex[name]]) if name in simplex else 2


@pytest.mark.parametrize(("name", "arguments"), ALL)
def test_prior_samples_are_a_standard_gaussian_in_units(name, arguments):
    prior = make_prior(name, arguments, dimensions(name, arguments))
    units = gaussian_units(prior).to_units(prior.sample(COUNT, torch.Generator().manual_seed(1)))
    for values in units.T:
        assert scipy.stats.kstest(values.numpy(), "norm").statistic < LARGEST
    if name != "RelaxedOneHotCategorical":  # its shares are slightly dependent
        correlation = torch.corrcoef(units.T) - torch.eye(units.shape[1])
        assert correlation.abs().max() < 5 / COUNT**0.5


@pytest.mark.parametrize(("name", "arguments", "expected"), PRIORS)
def test_a_standard_gaussian_becomes_the_prior(name, arguments, expected):
    noise = torch.randn(COUNT, 2, generator=torch.Generator().manual_seed(2))
    for values in gaussian_units(make_prior(name, arguments)).to_codes(noise).T:
        assert scipy.stats.kstest(values.numpy(), expected.cdf).statistic < LARGEST


@pytest.mark.parametrize(("name", "arguments"), ALL)
def test_the_map_is_inverted(name, arguments):
    prior = make_prior(name, arguments, dimensions(name, arguments))
    units = gaussian_units(prior)
    codes = prior.sample(COUNT, torch.Generator().manual_seed(3))
    again = units.to_codes(units.to_units(codes))
    # All but the few samples beyond the ends of the tables.
    error = ((again - codes).abs() / prior.scale).amax(1).sort().values
    assert error[-COUNT // 1000] < 2e-3


def test_samples_of_multivariate_priors_are_those_of_mapped_gaussians():
    """Along many directions, in which a wrong dependence between dimensions would show."""
    directions = torch.randn(2, 20, generator=torch.Generator().manual_seed(4))
    noise = torch.randn(COUNT, 2, generator=torch.Generator().manual_seed(5))
    for name, arguments in MULTIVARIATE[:6]:
        prior = make_prior(name, arguments)
        expected = prior.sample(COUNT, torch.Generator().manual_seed(6)) @ directions
        found = gaussian_units(prior).to_codes(noise) @ directions
        for one, other in zip(found.T.numpy(), expected.T.numpy(), strict=True):
            assert scipy.stats.ks_2samp(one, other).statistic < 1.5 * LARGEST, name


def test_distant_units_stay_in_the_support():
    far = torch.tensor([[-1e6, 1e6], [1e6, -REACH]])
    for name, arguments, _ in PRIORS:
        prior = make_prior(name, arguments)
        codes = gaussian_units(prior).to_codes(far)
        low, high = prior.support
        assert codes.isfinite().all()
        assert bool((codes >= low).all())
        assert bool((codes <= high).all())
    shares = gaussian_units(make_prior("Dirichlet", {"concentration": [0.5, 2.0, 2.0]}, 3))
    found = shares.to_codes(far)
    torch.testing.assert_close(found.sum(1), torch.ones(2))
    assert found.min() >= 0


def test_what_is_no_share_has_units_all_the_same():
    shares = gaussian_units(make_prior("Dirichlet", {"concentration": [0.5, 2.0, 2.0]}, 3))
    codes = torch.tensor([[-0.1, 0.6, 0.5], [0.5, -0.1, 0.6], [0.6, 0.5, -0.1], [9.0, 9.0, 9.0]])
    assert shares.to_units(codes).isfinite().all()
    assert shares.to_units(codes)[0, 0] < -4, "a negative share is a very small one"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("MultivariateNormal", {"loc": [0.0, 0.0], "scale_tril": [[1.0, 0.0], [1.0, 1e-4]]}),
        (
            "LowRankMultivariateNormal",
            {"loc": [0.0, 0.0], "cov_factor": [[1.0], [1.0]], "cov_diag": [1e-9, 1e-9]},
        ),
    ],
)
def test_a_gaussian_that_is_nearly_a_line_has_units(name, arguments):
    prior = make_prior(name, arguments)
    noise = torch.randn(COUNT, 2, generator=torch.Generator().manual_seed(7))
    codes = gaussian_units(prior).to_codes(noise)
    torch.testing.assert_close(codes.T.cov(), torch.ones(2, 2), atol=0.05, rtol=0)
    assert (codes[:, 1] - codes[:, 0]).std() > 2e-5, "it is not a line"


def test_the_units_of_a_model_without_a_prior_are_its_codes():
    codes = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(identity(3).to_codes(codes), codes)
    assert torch.equal(identity(3).to_units(codes), codes)


def test_a_gaussian_far_from_zero_has_exact_units():
    units = gaussian_units(make_prior("Normal", {"loc": 100.0, "scale": 0.1}))
    codes = torch.tensor([[100.0, 100.1], [99.8, 100.05]])
    # The resolution of single precision at 100 is 8e-6, that of units therefore 8e-5.
    expected = torch.tensor([[0.0, 1.0], [-2.0, 0.5]])
    torch.testing.assert_close(units.to_units(codes), expected, atol=1e-4, rtol=0)


def test_a_prior_of_shares_has_one_unit_less_than_its_codes(digits):
    prior = {"name": "shares", "distribution": "Dirichlet", "concentration": [1.0, 2.0, 3.0]}
    architecture = Architecture(
        image_shape=(1, 4, 4), latent_dim=3, hidden=(8,), prior=prior, units="gaussian"
    )
    codes = Model(architecture, seed=0).encode(digits)
    assert codes.shape == (60, 3)
    torch.testing.assert_close(codes.sum(1), torch.ones(60))
