"""Do the codes follow the prior? Two-sample tests of codes against prior samples.

A distance between codes and prior samples means nothing by itself, because two sets of prior
samples are also some distance apart. The noise floor is the distance to expect if the codes follow
the prior. To find it, sets of fresh prior samples replace the codes. The share of sets that are at
least as far from the prior as the codes is an exact p-value; the codes themselves count as one of
the sets. This is a Monte Carlo test: Davison and Hinkley 1997, section 4.2,
https://doi.org/10.1017/CBO9780511802843.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aae.evaluation.distances import (
    Array,
    Sample,
    c2st_accuracy,
    coverage_and_density,
    energy_distance,
    largest_ks_statistic,
    mmd2,
    sliced_wasserstein,
)
from aae.evaluation.measures import MEASURES
from aae.params import EvalLatent
from aae.priors import Prior
from aae.progress import ShowProgress, silent
from aae.seeding import stream

# Level of the verdict: the probability that the verdict rejects codes that do follow the prior.
LEVEL = 0.05
# The tests behind the verdict.
TESTS = (
    "sliced_wasserstein", "energy_distance", "mmd2", "ks_statistic", "ks_projected",
    "c2st_accuracy", "prior_coverage",
)  # fmt: skip
# Number of random directions along which distribution functions are compared.
KS_DIRECTIONS = 20
# A prior sample is in a gap if its nearest code is further away than the nearest point of this
# share of sets of prior samples.
NEAR = 0.99


class PriorTest:
    """The tests of codes against a prior, calibrated for one number of codes.

    Args:
        prior: the distribution that codes are compared with. If it has no variance (Cauchy), its
            few largest samples would dominate the distances: the tests then compare the ranks of
            codes and samples in the prior, from 0 to 1 in each dimension. If its dimensions have
            different standard deviations, all dimensions are first scaled to the mean of these,
            since a wide dimension would hide how the others depend on it.
        count: number of codes.
        settings: the section ``eval_latent`` of params.yaml.
        seed: the seed of params.yaml.
        progress: shows the number of sets of prior samples that are measured.
    """

    def __init__(
        self,
        prior: Prior,
        count: int,
        settings: EvalLatent,
        seed: int,
        progress: ShowProgress = silent,
    ) -> None:
        self.prior, self.settings = prior, settings
        random = torch.randn(
            prior.latent_dim, settings.projections, generator=stream(seed, "projections")
        )
        self.directions = F.normalize(random.double(), dim=0).numpy()
        self.order = torch.randperm(count, generator=stream(seed, "order of the codes"))
        generator = stream(seed, "prior samples for the evaluation")
        samples = [
            prior.sample(count, generator) for _ in range(settings.references + settings.draws)
        ]
        self.bandwidth = float(np.median(self._sample(samples[0], bandwidth=1.0).own_distances))
        self.references = [
            self._sample(points, self.bandwidth) for points in samples[: settings.references]
        ]
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            measured = pool.map(self._measure, samples[settings.references :])
            rows = list(progress(measured, settings.draws, "sets of prior samples"))
        nearest = [distances for _, distances in rows]
        self.near = np.quantile(nearest, NEAR, axis=0, method="weibull")
        # The codes are compared with all sets, but each set only with the others, for which this
        # slightly lower quantile is the right one.
        near = np.quantile(nearest, NEAR, axis=0)
        self.null = [_with_gaps(means, distances, near) for means, distances in rows]

    def __call__(self, codes: Tensor) -> dict:
        """Compare codes [n, d] with the prior.

        Returns:
            sliced_wasserstein, energy_distance, mmd2, ks_statistic (over dimensions), ks_projected
            (over random directions), prior_coverage, prior_density: see
            :mod:`aae.evaluation.distances`. Each is the mean over ``settings.references`` sets of
            prior samples.
            c2st_accuracy: see there; compared with one of these sets.
            prior_gap_share: share of prior samples in a gap, see :data:`NEAR`.
            match_ratio: sliced_wasserstein divided by the mean of its floor; 1 is a perfect match
            at this number of codes. It has no floor.
            floor: for each of the others, its score if the codes were prior samples: the mean, and
            the quantile that one set in twenty exceeds, "q95", or falls below, "q05", where lower
            is worse.
            p_value: for each test, the share of sets of prior samples, the codes included, that are
            at least as far from the prior as the codes; under "all" that of all tests together.
            follows_prior: whether all tests together cannot tell codes from prior samples at 5 %.
        """
        measured = _with_gaps(*self._measure(codes[self.order]), self.near)
        floor = {name: self._floor(name) for name in measured}
        p_values = self._p_values(measured)
        return {
            **measured,
            "match_ratio": measured["sliced_wasserstein"] / floor["sliced_wasserstein"]["mean"],
            "floor": floor,
            "p_value": p_values,
            "follows_prior": p_values["all"] > LEVEL,
        }

    def _floor(self, name: str) -> dict[str, float]:
        values = [row[name] for row in self.null]
        key, share = ("q05", 0.05) if MEASURES[name].better == "higher" else ("q95", 0.95)
        # This method gives the quantile that another set exceeds with exactly this probability.
        quantile = np.quantile(values, share, method="weibull")
        return {"mean": float(np.mean(values)), key: float(quantile)}

    def _p_values(self, measured: dict[str, float]) -> dict[str, float]:
        """Return the p-value of every test, and that of all tests together.

        The latter compares the smallest p-value of the codes with those of sets of prior samples,
        which accounts for the number of tests and for the dependence between them: Westfall and
        Young 1993, section 2.3 (single-step minP). If the smallest p-values are equal, the next
        smallest decide: with few draws, every test has a set that is its extreme.
        """
        signs = [-1 if MEASURES[name].better == "higher" else 1 for name in TESTS]
        rows = np.array([[row[name] for name in TESTS] for row in [measured, *self.null]]) * signs
        # For the codes and for each set in their place: the share that is at least as far away.
        shares = np.mean(rows[None, :, :] >= rows[:, None, :], axis=1)
        codes, *samples = np.sort(shares, axis=1).tolist()
        overall = (1 + sum(row <= codes for row in samples)) / len(rows)
        return {**dict(zip(TESTS, shares[0].tolist(), strict=True)), "all": overall}

    def _sample(self, codes: Tensor, bandwidth: float) -> Sample:
        if not self.prior.has_variance:
            codes = self.prior.ranks(codes)
        elif not self.prior.univariate:
            codes = codes * (self.prior.scale.mean() / self.prior.scale)
        return Sample(codes.double().numpy(), self.directions, self.settings.subset, bandwidth)

    def _measure(self, codes: Tensor) -> tuple[dict[str, float], Array]:
        """Return the mean of every statistic over the references, and the nearest distances.

        The latter are distances [references, m] from each of a reference's few to the nearest code.
        """
        sample = self._sample(codes, self.bandwidth)
        rows = [self._compare(sample, reference) for reference in self.references]
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        # One reference only, because this takes as long as all other statistics together.
        means["c2st_accuracy"] = c2st_accuracy(sample.few, self.references[0].few)
        nearest = [sample.distances_to(reference).min(axis=0) for reference in self.references]
        return means, np.array(nearest)

    def _compare(self, sample: Sample, reference: Sample) -> dict[str, float]:
        distances = sample.distances_to(reference)
        coverage, density = coverage_and_density(distances, reference.radii)
        return {
            "sliced_wasserstein": sliced_wasserstein(sample, reference),
            "energy_distance": energy_distance(sample, reference),
            "mmd2": mmd2(sample, reference),
            "ks_statistic": largest_ks_statistic(sample.ordered, reference.ordered),
            "ks_projected": largest_ks_statistic(
                sample.projected[:KS_DIRECTIONS], reference.projected[:KS_DIRECTIONS]
            ),
            "prior_coverage": coverage,
            "prior_density": density,
        }


def _with_gaps(measured: dict[str, float], nearest: Array, near: Array) -> dict[str, float]:
    return measured | {"prior_gap_share": float((nearest > near).mean())}
