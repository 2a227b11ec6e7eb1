"""The tests accept prior samples and reject codes with known defects."""

import json
import math
import pickle

import numpy as np
import pytest
import scipy.stats
import torch
from projects import shared

from aae.evaluation.measures import MEASURES
from aae.evaluation.two_sample import LEVEL, TESTS, PriorTest
from aae.params import EvalLatent
from aae.priors import Prior
from aae.priors.distributions import make_distribution
from aae.seeding import stream

COUNT = 1000
STD = 5.0
# The values of params.yaml, since the calibration must hold for the users' runs.
DEFAULTS = EvalLatent(projections=100, references=4, draws=199, subset=1000, judge_steps=1)
FEW = EvalLatent(projections=20, references=2, draws=19, subset=100, judge_steps=1)
RING = {"components": 10, "radius": 5.0, "radial_std": 1.25, "tangential_std": 0.4}


@pytest.fixture(scope="session")
def gaussian() -> Prior:
    return Prior(make_distribution("Normal", {"loc": 0.0, "scale": STD}), 2)


@pytest.fixture(scope="session")
def ring() -> Prior:
    return Prior(make_distribution("GaussianRing", RING), 2)


def calibrated(factory: pytest.TempPathFactory, name: str, prior: Prior) -> PriorTest:
    """The test of a prior; one worker calibrates it for all others, since that takes long."""
    file = shared(
        factory, name,
        lambda path: path.write_bytes(pickle.dumps(PriorTest(prior, COUNT, DEFAULTS, seed=0))),
    )  # fmt: skip
    return pickle.loads(file.read_bytes())


@pytest.fixture(scope="session")
def of_gaussian(gaussian, tmp_path_factory) -> PriorTest:
    return calibrated(tmp_path_factory, "test of the Gaussian", gaussian)


@pytest.fixture(scope="session")
def of_ring(ring, tmp_path_factory) -> PriorTest:
    return calibrated(tmp_path_factory, "test of the ring", ring)


def shifted(codes: torch.Tensor) -> torch.Tensor:
    return codes + torch.tensor([0.2 * STD, 0.0])


def far_shifted(codes: torch.Tensor) -> torch.Tensor:
    return codes + torch.tensor([0.3 * STD, 0.0])


def narrowed(codes: torch.Tensor) -> torch.Tensor:
    return 0.9 * codes


def correlated(codes: torch.Tensor) -> torch.Tensor:
    """Both dimensions remain Gaussian, with the same standard deviation."""
    mixed = 0.3 * codes[:, 0] + math.sqrt(1 - 0.3**2) * codes[:, 1]
    return torch.stack([codes[:, 0], mixed], dim=1)


def pierced(codes: torch.Tensor) -> torch.Tensor:
    """Codes without those in a disc next to the centre, with 6 % of the prior."""
    centre = torch.tensor([0.5, 0.5]) * STD
    return codes[(codes - centre).norm(dim=1) > 0.4 * STD]


def without_a_component(codes: torch.Tensor) -> torch.Tensor:
    """Codes without the sector of one of the ten Gaussians of the ring."""
    angle = torch.atan2(codes[:, 1], codes[:, 0])
    return codes[angle.abs() > math.pi / 10]


def spoilt(prior: Prior, defect, seed: int) -> torch.Tensor:
    return defect(prior.sample(2 * COUNT, stream(seed, "codes")))[:COUNT]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("defect", [shifted, narrowed, correlated, pierced])
def test_every_defect_is_caught(gaussian, of_gaussian, defect, seed):
    found = of_gaussian(spoilt(gaussian, defect, seed))
    assert not found["follows_prior"]


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_a_wide_dimension_does_not_hide_how_another_depends_on_it(seed):
    """A user's prior may have scales of 1 and 100."""
    scale = torch.tensor([1.0, 100.0])
    covariance = {"covariance_matrix": scale.square().diag().tolist()}
    prior = Prior(make_distribution("MultivariateNormal", {"loc": [0.0, 0.0], **covariance}), 2)
    settings = DEFAULTS.model_copy(update={"draws": 39})
    test = PriorTest(prior, COUNT, settings, seed=0)
    codes = correlated(prior.sample(COUNT, stream(seed, "codes")) / scale) * scale
    assert not test(codes)["follows_prior"]
    assert test(prior.sample(COUNT, stream(seed, "codes")))["follows_prior"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_missing_component_is_caught(ring, of_ring, seed):
    assert not of_ring(spoilt(ring, without_a_component, seed))["follows_prior"]
    assert of_ring(ring.sample(COUNT, stream(seed, "codes")))["p_value"]["all"] > 0.005


def test_few_draws_do_not_let_a_gross_defect_pass(gaussian):
    """Each of the seven tests has an extreme set among nineteen, which the codes do not exceed."""
    settings = DEFAULTS.model_copy(update={"draws": 19})
    test = PriorTest(gaussian, COUNT, settings, seed=0)
    for seed in range(5):
        assert not test(spoilt(gaussian, far_shifted, seed))["follows_prior"]


def test_perfect_marginals_do_not_hide_a_dependence(gaussian, of_gaussian):
    found = of_gaussian(spoilt(gaussian, correlated, 0))
    assert found["p_value"]["ks_statistic"] > LEVEL
    assert found["p_value"]["mmd2"] < LEVEL


def test_a_hole_shows_in_coverage_and_gaps(gaussian, of_gaussian):
    found = of_gaussian(spoilt(gaussian, pierced, 0))
    assert found["p_value"]["prior_coverage"] < LEVEL
    floor = found["floor"]
    assert found["prior_coverage"] < floor["prior_coverage"]["q05"]
    assert floor["prior_coverage"]["q05"] < floor["prior_coverage"]["mean"]
    assert found["prior_gap_share"] > floor["prior_gap_share"]["q95"]
    assert floor["prior_gap_share"]["mean"] == pytest.approx(0.01, abs=0.002)


def test_in_many_dimensions_neighbours_do_not_show_that_codes_are_too_narrow():
    """The limit in docs/evaluation.md of the tests that use neighbours; the others detect it."""
    prior = Prior(make_distribution("Normal", {"loc": 0.0, "scale": STD}), 64)
    test = PriorTest(prior, 500, FEW, seed=0)
    for seed in range(3):
        found = test(0.8 * prior.sample(500, stream(seed, "codes")))
        blind = {name for name in TESTS if found["p_value"][name] > LEVEL}
        assert blind == {"c2st_accuracy", "prior_coverage"}
        assert found["prior_density"] > 2 * found["floor"]["prior_density"]["q95"]
        assert not found["follows_prior"]


@pytest.mark.slow
def test_prior_samples_are_accused_no_more_often_than_stated(gaussian, of_gaussian):
    """Accepted in at least 90 of 100 seeds: at a level of 5 %, fewer have a probability of 1 %."""
    results = [of_gaussian(gaussian.sample(COUNT, stream(seed, "codes"))) for seed in range(100)]
    assert sum(result["follows_prior"] for result in results) >= 90
    # Each p-value must be uniform: Kolmogorov-Smirnov at 0.1 % each (they are multiples of 1/200).
    for name in (*TESTS, "all"):
        values = [result["p_value"][name] for result in results]
        assert scipy.stats.kstest(values, "uniform").statistic < 1.95 / 10 + 1 / 200, name
    # Nor may they exceed the floor more often than one in twenty. The position of a floor from 199
    # draws has a beta distribution: more than 18 of 100 beyond it have a probability of 0.01 %.
    floor = of_gaussian(gaussian.sample(COUNT, stream(0, "codes")))["floor"]
    for name, ends in floor.items():
        if "q95" in ends:
            assert sum(result[name] > ends["q95"] for result in results) <= 18, name
        else:
            assert sum(result[name] < ends["q05"] for result in results) <= 18, name


def test_prior_samples_are_at_the_noise_floor(gaussian, of_gaussian):
    found = of_gaussian(gaussian.sample(COUNT, stream(0, "codes")))
    assert found["follows_prior"]
    assert 0.7 < found["match_ratio"] < 1.3
    expected = found["sliced_wasserstein"] / found["floor"]["sliced_wasserstein"]["mean"]
    assert found["match_ratio"] == pytest.approx(expected)
    # The expected value of the two-sample statistic is sqrt(pi / 2) ln 2 sqrt(2 / n) for one
    # dimension; the larger of two dimensions is above it, and below its 99 % quantile.
    one = np.sqrt(np.pi / 2) * np.log(2) * np.sqrt(2 / COUNT)
    assert one < found["floor"]["ks_statistic"]["mean"] < 1.628 * np.sqrt(2 / COUNT)
    assert found["floor"]["c2st_accuracy"]["mean"] == pytest.approx(0.5, abs=0.01)
    # The mean of 199 draws whose expected value is zero.
    floor = found["floor"]["mmd2"]
    assert abs(floor["mean"]) < floor["q95"]


def test_a_p_value_is_the_share_of_prior_samples_as_far_away(gaussian):
    test = PriorTest(gaussian, 200, FEW, seed=0)
    found = test(gaussian.sample(200, stream(1, "codes")))
    for name in TESTS:
        sign = -1 if MEASURES[name].better == "higher" else 1
        as_far = sum(sign * row[name] >= sign * found[name] for row in test.null)
        assert found["p_value"][name] == pytest.approx((as_far + 1) / (len(test.null) + 1))
    hopeless = test(gaussian.sample(200, stream(1, "codes")) + 100)
    assert set(hopeless["p_value"].values()) == {1 / 20}
    assert json.loads(json.dumps(hopeless)) == hopeless, "as the stage writes it"


def test_the_tests_repeat_to_the_last_digit(gaussian):
    codes = gaussian.sample(200, stream(0, "codes"))
    first = PriorTest(gaussian, 200, FEW, seed=0)(codes)
    np.random.seed(1)
    torch.manual_seed(1)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    assert PriorTest(gaussian, 200, FEW, seed=0)(codes) == first
    torch.set_num_threads(threads)
    assert PriorTest(gaussian, 200, FEW, seed=1)(codes) != first


def test_codes_in_the_order_of_their_classes_are_all_represented(gaussian):
    """If a part of the codes stands for all, it must not be the first codes."""
    codes = gaussian.sample(1000, stream(0, "codes"))
    codes = codes[codes[:, 0].argsort()]
    settings = FEW.model_copy(update={"subset": 200})
    # 400 guesses: five standard deviations.
    assert PriorTest(gaussian, 1000, settings, seed=0)(codes)["c2st_accuracy"] < 0.5 + 5 * 0.025


def test_to_a_prior_without_variance_codes_are_compared_by_their_ranks():
    cauchy = Prior(make_distribution("Cauchy", {"loc": 0.0, "scale": 1.0}), 2)
    test = PriorTest(cauchy, COUNT, FEW, seed=0)
    samples = cauchy.sample(COUNT, stream(0, "codes"))
    same = test(samples)
    # The square of this distance between ranks is the Cramér-von Mises statistic, whose 99.9 %
    # quantile is seven times its mean (1.168 and 1/6).
    assert same["match_ratio"] < 7**0.5
    assert same["sliced_wasserstein"] < 1
    # In units of the codes, a few distant samples would hide that codes have no tails.
    for wrong in (samples.clamp(-1, 1), torch.randn(COUNT, 2, generator=stream(0, "normal"))):
        assert test(wrong)["match_ratio"] > 7**0.5
