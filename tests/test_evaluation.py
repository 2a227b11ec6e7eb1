import numpy as np
import ot
import pytest
import scipy.stats
import torch

from aae.distributions import make_distribution
from aae.evaluation import (
    compare_with_prior,
    evaluate,
    largest_ks_statistic,
    latent_histogram,
    prior_quantile_shares,
    sliced_wasserstein,
    visible_range,
)
from aae.networks import Architecture, Model, apply
from aae.params import EvalLatent
from aae.priors import Prior
from aae.seeding import stream


@pytest.fixture
def gaussian() -> Prior:
    return Prior(make_distribution("Normal", {"loc": 2.0, "scale": 5.0}), 2)


@pytest.fixture
def settings(make_params):
    return make_params({}).eval_latent


def test_sliced_wasserstein_of_a_shift_is_known():
    """The projected samples move by the shift's projection, whose mean square is |shift|²/d."""
    rng = np.random.default_rng(0)
    sample = rng.normal(size=(500, 3))
    projections = ot.sliced.get_random_projections(3, 4000, seed=0)
    found = sliced_wasserstein(sample, sample + np.array([3.0, 0.0, 4.0]), projections)
    # The mean of 4,000 squared cosines, 1/3 each with a variance of 4/45.
    assert found == pytest.approx(5 / np.sqrt(3), rel=4 * np.sqrt(4 / 45 / 4000) * 3 / 2)


def test_sliced_wasserstein_equals_sorting_by_hand():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(300, 2)), rng.gamma(2, size=(300, 2))
    projections = ot.sliced.get_random_projections(2, 20, seed=0)
    squares = [
        np.mean((np.sort(first @ direction) - np.sort(second @ direction)) ** 2)
        for direction in projections.T
    ]
    found = sliced_wasserstein(first, second, projections)
    assert found == pytest.approx(np.sqrt(np.mean(squares)))


def test_ks_equals_the_largest_gap_of_the_distribution_functions():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(200, 2)), rng.normal([0, 1], size=(200, 2))
    gaps = []
    for x, y in zip(first.T, second.T, strict=True):
        points = np.concatenate([x, y])[:, None]
        gaps.append(np.abs((x <= points).mean(1) - (y <= points).mean(1)).max())
    assert largest_ks_statistic(first, second) == pytest.approx(max(gaps))


def test_prior_samples_match_their_prior(gaussian, settings):
    """Codes that are prior samples: ratio about 1, within what two samples differ anyway."""
    codes = gaussian.sample(1000, stream(0, "codes"))
    found = compare_with_prior(codes, gaussian, settings, seed=0)
    assert found["sliced_wasserstein"] < found["floor"]["sliced_wasserstein"]["q95"]
    assert 0.7 < found["match_ratio"] < 1.3
    # Expected value of the two-sample statistic: sqrt(pi / 2) ln 2 sqrt(2 / n) for one dimension;
    # the larger of two dimensions is above it, and below its 99 % quantile.
    one = np.sqrt(np.pi / 2) * np.log(2) * np.sqrt(2 / 1000)
    assert one < found["floor"]["ks_statistic"]["mean"] < 1.628 * np.sqrt(2 / 1000)


@pytest.mark.parametrize(
    "spoil",
    [lambda z: z + 1.5, lambda z: (z - 2) * 0.7 + 2, lambda z: torch.where(z > 2, z, -z)],
    ids=["shifted", "too narrow", "folded"],
)
def test_codes_that_do_not_match_are_above_the_floor(gaussian, settings, spoil):
    codes = spoil(gaussian.sample(1000, stream(0, "codes")))
    found = compare_with_prior(codes, gaussian, settings, seed=0)
    assert found["match_ratio"] > 2
    for name in ("sliced_wasserstein", "ks_statistic"):
        assert found[name] > found["floor"][name]["q95"]
    expected = found["sliced_wasserstein"] / found["floor"]["sliced_wasserstein"]["mean"]
    assert found["match_ratio"] == pytest.approx(expected)


def test_the_evaluation_repeats_to_the_last_digit(gaussian, settings):
    codes = gaussian.sample(200, stream(0, "codes"))
    first = compare_with_prior(codes, gaussian, settings, seed=0)
    np.random.seed(1)
    torch.manual_seed(1)
    assert compare_with_prior(codes, gaussian, settings, seed=0) == first
    assert compare_with_prior(codes, gaussian, settings, seed=1) != first


def test_reconstruction_error_is_per_pixel(digits, gaussian, settings):
    model = Model(Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,)), seed=0)
    with torch.no_grad():  # a decoder that paints everything mid-grey
        for parameter in model.decoder.parameters():
            parameter.zero_()
    codes = apply(model.encoder, digits)
    found = evaluate(model, digits, codes, gaussian, settings, seed=0)
    expected = ((digits.double() / 255 - 0.5) ** 2).mean().item()
    assert found["reconstruction_mse"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("latent_dim", [1, 3])
def test_the_histogram_is_a_density_with_the_priors_beside_it(latent_dim):
    prior = Prior(make_distribution("Gamma", {"concentration": 2.0, "rate": 1.0}), latent_dim)
    codes = prior.sample(2000, stream(0, "codes")) + 1
    table = latent_histogram(codes, prior)
    assert list(table) == ["dimension", "low", "high", "codes", "prior"]
    for dimension, bins in table.groupby("dimension"):
        widths = bins["high"] - bins["low"]
        # All but half a percent at either end is in the picture, and all of it in the densities.
        values = codes[:, dimension - 1]
        seen = (values >= bins["low"].iloc[0]) & (values <= bins["high"].iloc[-1])
        assert (bins["codes"] * widths).sum() == pytest.approx(seen.double().mean().item())
        assert seen.double().mean() >= 0.99
        assert (bins["prior"] * widths).sum() == pytest.approx(1, abs=0.02)
        inside = (codes[:, dimension - 1] >= bins["low"].iloc[5]) & (
            codes[:, dimension - 1] < bins["high"].iloc[5]
        )
        assert bins["codes"].iloc[5] * widths.iloc[5] * 2000 == pytest.approx(inside.sum().item())
        centres = (bins["low"] + bins["high"]) / 2
        np.testing.assert_allclose(bins["prior"], scipy.stats.gamma(2).pdf(centres), rtol=1e-4)


def test_a_few_far_points_do_not_make_a_dot_of_the_picture():
    cauchy = Prior(make_distribution("Cauchy", {"loc": 0.0, "scale": 1.0}), 2)
    codes = cauchy.sample(2000, stream(0, "codes"))
    assert codes.abs().max() > 500
    low, high = visible_range(codes, cauchy)
    assert ((high - low) < 200).all()
    # Codes far from the prior are in it all the same.
    low, high = visible_range(codes[:1000] * 0.01 + 300, cauchy)
    assert (low < 0).all()
    assert (high > 300).all()


def test_to_a_prior_without_variance_codes_are_compared_by_their_ranks():
    cauchy = Prior(make_distribution("Cauchy", {"loc": 0.0, "scale": 1.0}), 2)
    settings = EvalLatent(projections=20, draws=10)
    samples = cauchy.sample(1000, stream(0, "codes"))
    same = compare_with_prior(samples, cauchy, settings, seed=0)
    # The square of this distance between ranks is Cramér and von Mises' statistic, whose 99.9 %
    # quantile is seven times its mean (1.168 and 1/6).
    assert same["match_ratio"] < 7**0.5
    assert same["sliced_wasserstein"] < 1
    # In units of the codes, a few far samples would make codes without tails look as good.
    for wrong in (samples.clamp(-1, 1), torch.randn(1000, 2, generator=stream(0, "normal"))):
        assert compare_with_prior(wrong, cauchy, settings, seed=0)["match_ratio"] > 7**0.5


def test_shares_between_quantiles_are_equal_for_prior_samples_only():
    prior = Prior(make_distribution("Exponential", {"rate": 3.0}), 2)
    codes = prior.sample(2000, stream(0, "codes"))
    shares = prior_quantile_shares(codes, prior)
    assert shares.sum() == pytest.approx(1)
    # 4,000 values in 20 bins: chi-square with 19 degrees of freedom, 99.99 % quantile.
    chi_square = 4000 * ((shares - 0.05) ** 2 / 0.05).sum()
    assert chi_square < scipy.stats.chi2(19).ppf(0.9999)
    assert prior_quantile_shares(codes - 100, prior)[0] == 1
    assert prior_quantile_shares(codes + 100, prior)[-1] == 1
