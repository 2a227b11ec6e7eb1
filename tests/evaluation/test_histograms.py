import numpy as np
import pytest
import scipy.stats

from aae.evaluation.histograms import latent_histogram, prior_quantile_shares, visible_range
from aae.priors import Prior, make_distribution
from aae.seeding import stream


@pytest.mark.parametrize("latent_dim", [1, 3])
def test_the_histogram_is_a_density_with_the_priors_beside_it(latent_dim):
    prior = Prior(make_distribution("Gamma", {"concentration": 2.0, "rate": 1.0}), latent_dim)
    codes = prior.sample(2000, stream(0, "codes")) + 1
    table = latent_histogram(codes, prior)
    assert list(table) == ["dimension", "low", "high", "codes", "prior"]
    for dimension, bins in table.groupby("dimension"):
        widths = bins["high"] - bins["low"]
        # The picture leaves out half a percent at either end; the densities count all codes.
        values = codes[:, dimension - 1]
        seen = (values >= bins["low"].iloc[0]) & (values <= bins["high"].iloc[-1])
        assert (bins["codes"] * widths).sum() == pytest.approx(seen.double().mean().item())
        assert seen.double().mean() >= 0.99
        assert (bins["prior"] * widths).sum() == pytest.approx(1, abs=0.02)
        inside = (codes[:, dimension - 1] >= bins["low"].iloc[5]) & (
            codes[:, dimension - 1] < bins["high"].iloc[5]
        )
        assert bins["codes"].iloc[5] * widths.iloc[5] * 2000 == pytest.approx(inside.sum().item())
        edges = [*bins["low"], bins["high"].iloc[-1]]
        shares = np.diff(scipy.stats.gamma(2).cdf(edges))
        np.testing.assert_allclose(bins["prior"] * widths, shares, rtol=1e-3, atol=1e-6)


def test_a_few_far_points_do_not_make_a_dot_of_the_picture():
    cauchy = Prior(make_distribution("Cauchy", {"loc": 0.0, "scale": 1.0}), 2)
    codes = cauchy.sample(2000, stream(0, "codes"))
    assert codes.abs().max() > 500
    low, high = visible_range(codes, cauchy)
    assert ((high - low) < 200).all()
    # The range must also contain codes far from the prior.
    low, high = visible_range(codes[:1000] * 0.01 + 300, cauchy)
    assert (low < 0).all()
    assert (high > 300).all()


def test_shares_between_quantiles_are_equal_for_prior_samples_only():
    prior = Prior(make_distribution("Exponential", {"rate": 3.0}), 2)
    codes = prior.sample(2000, stream(0, "codes"))
    table = prior_quantile_shares({"aae": codes}, prior)
    assert table["prior_quantile"].tolist() == pytest.approx(np.arange(0.025, 1, 0.05))
    assert (table["prior"] == 0.05).all()
    shares = table["aae"]
    assert shares.sum() == pytest.approx(1)
    # 4,000 values in 20 bins: chi-square with 19 degrees of freedom, 99.99 % quantile.
    chi_square = 4000 * ((shares - 0.05) ** 2 / 0.05).sum()
    assert chi_square < scipy.stats.chi2(19).ppf(0.9999)
    far = prior_quantile_shares({"left": codes - 100, "right": codes + 100}, prior)
    assert far["left"].iloc[0] == 1
    assert far["right"].iloc[-1] == 1
