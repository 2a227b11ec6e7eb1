"""How well held-out codes follow the prior.

A distance between codes and prior samples says nothing alone: two samples of the prior itself are
some distance apart. Every distance therefore comes with its noise floor, the same distance between
pairs of prior samples of the same size.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from aae.data import pixels
from aae.networks import Model, apply
from aae.params import EvalLatent
from aae.priors import Prior
from aae.seeding import stream

Sample = NDArray[np.float64]
Distance = Callable[[Sample, Sample], float]


def evaluate(
    model: Model, images: Tensor, codes: Tensor, prior: Prior, settings: EvalLatent, seed: int
) -> dict:
    """Measure a model on held-out images.

    Args:
        model: autoencoder or adversarial autoencoder.
        images: uint8 images [n, C, H, W] that it was not trained on.
        codes: their codes [n, d].
        prior: the distribution that its codes are compared with.
        settings: the section ``eval_latent`` of params.yaml.
        seed: the seed of params.yaml.

    Returns:
        reconstruction_mse (per pixel, pixels from 0 to 1), and all of :func:`compare_with_prior`.
    """
    mse = F.mse_loss(apply(model.decoder, codes), pixels(images)).item()
    return {"reconstruction_mse": mse, **compare_with_prior(codes, prior, settings, seed)}


def compare_with_prior(codes: Tensor, prior: Prior, settings: EvalLatent, seed: int) -> dict:
    """Measure how far codes [n, d] are from the prior.

    Each distance is the mean over ``settings.draws`` prior samples of size n. Its noise floor is
    that between as many pairs of prior samples.

    Returns:
        sliced_wasserstein: in units of the codes, see :func:`sliced_wasserstein`. To a prior
            without a variance (Cauchy) that distance is infinite and its estimate decided by the
            few largest samples: codes and samples are then compared by their ranks in the prior,
            from 0 to 1 in each dimension.
        match_ratio: sliced_wasserstein over the mean of its floor; 1 is a perfect match at this
            sample size.
        ks_statistic: see :func:`largest_ks_statistic`.
        floor: for each distance its mean and 95 % quantile between prior samples.
    """
    generator = stream(seed, "prior samples for the evaluation")

    def comparable(sample: Tensor) -> Sample:
        return (sample if prior.has_variance else prior.ranks(sample)).double().numpy()

    def prior_sample() -> Sample:
        return comparable(prior.sample(len(codes), generator))

    sample = comparable(codes)

    directions = torch.randn(
        prior.latent_dim, settings.projections, generator=stream(seed, "projections")
    )
    projections = F.normalize(directions.double(), dim=0).numpy()
    distances: dict[str, Distance] = {
        "sliced_wasserstein": lambda x, y: sliced_wasserstein(x, y, projections),
        "ks_statistic": largest_ks_statistic,
    }
    from_codes: dict[str, list[float]] = {name: [] for name in distances}
    between_priors: dict[str, list[float]] = {name: [] for name in distances}
    for _ in range(settings.draws):
        first, second = prior_sample(), prior_sample()
        for name, distance in distances.items():
            from_codes[name].append(distance(sample, first))
            between_priors[name].append(distance(first, second))
    results: dict = {name: float(np.mean(values)) for name, values in from_codes.items()}
    floor = {
        name: {"mean": float(np.mean(values)), "q95": float(np.quantile(values, 0.95))}
        for name, values in between_priors.items()
    }
    ratio = results["sliced_wasserstein"] / floor["sliced_wasserstein"]["mean"]
    return {**results, "match_ratio": ratio, "floor": floor}


def sliced_wasserstein(first: Sample, second: Sample, projections: Sample) -> float:
    """Sliced 2-Wasserstein distance between samples [n, d] and [m, d], in units of the codes.

    The root mean square, over ``projections`` [d, k], of the 2-Wasserstein distances between the
    projected samples. Bonneel et al. 2015, https://doi.org/10.1007/s10851-014-0506-3; computed by
    POT.
    """
    import ot  # here, since figures need this module and not what takes a second to load

    return float(ot.sliced_wasserstein_distance(first, second, projections=projections))


def largest_ks_statistic(first: Sample, second: Sample) -> float:
    """Two-sample Kolmogorov-Smirnov statistic in the dimension where it is largest, from 0 to 1.

    The largest distance between the two empirical distribution functions of a dimension; computed
    by SciPy.
    """
    from scipy.stats import ks_2samp

    dimensions = zip(first.T, second.T, strict=True)
    return float(max(ks_2samp(x, y, method="asymp").statistic for x, y in dimensions))


def latent_histogram(codes: Tensor, prior: Prior, bins: int = 40) -> pd.DataFrame:
    """Histogram of codes [n, d] in every dimension against the density of the prior.

    The bins cover :func:`visible_range`; what lies outside counts in the densities all the same.

    Returns:
        One row a bin: dimension (from 1), low, high, codes and prior; the last two are densities,
        that of the prior at the centre of the bin.
    """
    tables = []
    lows, highs = visible_range(codes, prior)
    for dimension, values in enumerate(codes.T):
        limits = (lows[dimension].item(), highs[dimension].item())
        counts, edges = np.histogram(values.numpy(), bins, limits)
        density = counts / (len(values) * np.diff(edges))
        centres = torch.from_numpy((edges[1:] + edges[:-1]) / 2).float()
        columns = {
            "dimension": dimension + 1,
            "low": edges[:-1],
            "high": edges[1:],
            "codes": density,
            "prior": prior.density(centres, dimension).numpy(),
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def visible_range(codes: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
    """Lower and upper end [d] of what a picture of codes [n, d] and prior has to show.

    It covers all but 1 % of the codes, and of the prior all but 0.2 % or, if its tails are heavy,
    what is within six standard deviations of the mean: a few far points would make a dot of the
    rest.
    """
    low, high = codes.quantile(torch.tensor([0.005, 0.995]), dim=0)
    prior_low, prior_high = prior.quantiles(torch.tensor([0.001, 0.999]))[:, : codes.shape[1]]
    mean, reach = prior.mean[: codes.shape[1]], 6 * prior.scale[: codes.shape[1]]
    return (
        torch.minimum(low, torch.maximum(prior_low, mean - reach)),
        torch.maximum(high, torch.minimum(prior_high, mean + reach)),
    )


def prior_quantile_shares(codes: Tensor, prior: Prior, bins: int = 20) -> NDArray[np.float64]:
    """Share of codes [n, d] between successive quantiles of the prior, over all dimensions.

    The probability integral transform: codes that follow the prior have a share of 1 / bins in
    each of the equally probable bins, whatever the prior and its dimensions.
    """
    counts, _ = np.histogram(prior.ranks(codes).numpy(), bins, (0, 1))
    return counts / counts.sum()
