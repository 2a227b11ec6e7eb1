"""Histograms of the codes, next to the density of the prior, as tables."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from aae.priors import Prior


def latent_histogram(codes: Tensor, prior: Prior, bins: int = 40) -> pd.DataFrame:
    """Return a histogram of codes [n, d] in every dimension, with the density of the prior.

    The bins cover :func:`visible_range`. The densities also count the codes outside of it.

    Returns:
        One row for each bin: dimension (from 1), low, high, codes and prior. The last two are mean
        densities in the bin.
    """
    tables = []
    lows, highs = visible_range(codes, prior)
    for dimension, values in enumerate(codes.T):
        limits = (lows[dimension].item(), highs[dimension].item())
        counts, edges = np.histogram(values.numpy(), bins, limits)
        density = counts / (len(values) * np.diff(edges))
        columns = {
            "dimension": dimension + 1,
            "low": edges[:-1],
            "high": edges[1:],
            "codes": density,
            "prior": prior.bin_densities(torch.from_numpy(edges).float(), dimension).numpy(),
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def visible_range(codes: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
    """Return the lower and upper ends [d] of a picture of codes [n, d] and prior.

    The range covers 99 % of the codes, and 99.8 % of the prior or, if its tails are heavy, six
    standard deviations around its mean: a few distant points would shrink the rest to a dot.
    """
    low, high = codes.quantile(torch.tensor([0.005, 0.995]), dim=0)
    prior_low, prior_high = prior.quantiles(torch.tensor([0.001, 0.999]))[:, : codes.shape[1]]
    mean, reach = prior.mean[: codes.shape[1]], 6 * prior.scale[: codes.shape[1]]
    return (
        torch.minimum(low, torch.maximum(prior_low, mean - reach)),
        torch.maximum(high, torch.minimum(prior_high, mean + reach)),
    )


def prior_quantile_shares(
    codes: Mapping[str, Tensor], prior: Prior, bins: int = 20
) -> pd.DataFrame:
    """Return the shares of codes [n, d] between quantiles of the prior, over all dimensions.

    This is the probability integral transform: the bins are equally probable, so codes that follow
    the prior have a share of 1 / bins in each of them.

    Returns:
        One row for each bin: prior_quantile (its centre), prior (1 / bins), and a column for each
        model.
    """
    counts = {name: np.histogram(prior.ranks(z), bins, (0, 1))[0] for name, z in codes.items()}
    shares = {name: count / count.sum() for name, count in counts.items()}
    centres = (np.arange(bins) + 0.5) / bins
    return pd.DataFrame({"prior_quantile": centres, "prior": 1 / bins, **shares})
