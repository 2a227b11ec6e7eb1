"""Whatever a prior admits is drawn right: samples are compared with SciPy, or refused."""

import pytest
import scipy.stats as st
import torch
from support import make_prior

from aae.errors import ParameterError
from aae.priors import chosen_prior

COUNT = 20_000
# A Kolmogorov-Smirnov statistic that one in a million samples of a correct distribution exceeds.
LARGEST = st.kstwo.isf(1e-6, COUNT)
SHAPES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0, 10.0, 100.0, 1e3, 1e4, 1e5)
# Each family as a function of one argument, with the same distribution of SciPy.
FAMILIES = {
    "Beta": lambda c: ({"concentration1": c, "concentration0": c}, st.beta(c, c)),
    "Beta, skewed": lambda c: ({"concentration1": c, "concentration0": 2.0}, st.beta(c, 2)),
    "Gamma": lambda c: ({"concentration": c, "rate": 1.0}, st.gamma(c)),
    "InverseGamma": lambda c: ({"concentration": c, "rate": 1.0}, st.invgamma(c)),
    "Chi2": lambda c: ({"df": c}, st.chi2(c)),
    "StudentT": lambda c: ({"df": c}, st.t(c)),
    "FisherSnedecor": lambda c: ({"df1": c, "df2": c}, st.f(c, c)),
    "Pareto": lambda c: ({"scale": 1.0, "alpha": c}, st.pareto(c)),
    "Weibull": lambda c: ({"scale": 1.0, "concentration": c}, st.weibull_min(c)),
    "GeneralizedPareto": lambda c: (
        {"loc": 0.0, "scale": 1.0, "concentration": c}, st.genpareto(c)
    ),
    "LogNormal": lambda c: ({"loc": 0.0, "scale": c}, st.lognorm(c)),
    "Normal": lambda c: ({"loc": 0.0, "scale": c}, st.norm(0, c)),
    "Laplace": lambda c: ({"loc": 0.0, "scale": c}, st.laplace(0, c)),
    "Gumbel": lambda c: ({"loc": 0.0, "scale": c}, st.gumbel_r(0, c)),
    "HalfNormal": lambda c: ({"scale": c}, st.halfnorm(0, c)),
    "Cauchy": lambda c: ({"loc": 0.0, "scale": c}, st.cauchy(0, c)),
    "HalfCauchy": lambda c: ({"scale": c}, st.halfcauchy(0, c)),
    "Exponential": lambda c: ({"rate": c}, st.expon(0, 1 / c)),
    "Uniform": lambda c: ({"low": 0.0, "high": c}, st.uniform(0, c)),
    "Kumaraswamy": lambda c: ({"concentration1": c, "concentration0": 1.0}, st.beta(c, 1)),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_admitted_is_drawn_right_and_what_is_not_is_refused(family):
    admitted = []
    for shape in SHAPES:
        arguments, reference = FAMILIES[family](shape)
        try:
            prior = make_prior(family.partition(",")[0], arguments, latent_dim=1)
        except ParameterError as error:
            assert "single precision" in str(error) or "does not satisfy" in str(error)  # noqa: PT017
            continue
        admitted.append(shape)
        samples = prior.sample(COUNT, torch.Generator().manual_seed(1))[:, 0].double().numpy()
        assert st.kstest(samples, reference.cdf).statistic < LARGEST, shape
    assert 1.0 in admitted, "usual arguments are not refused"
    assert 3.0 in admitted


def test_a_refusal_names_arguments_that_would_do(make_params):
    entry = {"distribution": "Beta", "concentration1": 0.001, "concentration0": 0.001}
    with pytest.raises(ParameterError) as error:
        make_params({"prior": "beta", "priors.beta": entry})
    assert str(error.value).startswith("priors.beta.distribution: ")
    assert str(error.value).endswith("; Beta(concentration1=0.51, concentration0=0.51) would do")
    entry |= {"concentration1": 0.51, "concentration0": 0.51}
    assert chosen_prior(make_params({"prior": "beta", "priors.beta": entry}))
