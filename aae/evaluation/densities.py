"""Where the codes lie and where the prior does, as tables that can be drawn."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from aae.priors.prior import REFERENCE_SIZE, Prior
from aae.seeding import stream

Array = NDArray[np.float64]

# Shares of the prior that its contours enclose.
ENCLOSED = (0.25, 0.5, 0.75, 0.95)
# Cells along each side of the grid on which a density in the plane is computed.
CELLS = 120


def latent_histogram(codes: Tensor, prior: Prior, bins: int = 40) -> pd.DataFrame:
    """Histogram of codes [n, d] in every dimension against the density of the prior.

    The bins cover :func:`visible_range`; what lies outside counts in the densities all the same.

    Returns:
        One row a bin: dimension (from 1), low, high, codes and prior; the last two are mean
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


def prior_quantile_shares(
    codes: Mapping[str, Tensor], prior: Prior, bins: int = 20
) -> pd.DataFrame:
    """Share of codes [n, d] between successive quantiles of the prior, over all dimensions.

    The probability integral transform: codes that follow the prior have a share of 1 / bins in
    each of the equally probable bins, whatever the prior and its dimensions.

    Returns:
        One row a bin: prior_quantile, its centre; prior, 1 / bins; a column for each model.
    """
    counts = {name: np.histogram(prior.ranks(z), bins, (0, 1))[0] for name, z in codes.items()}
    shares = {name: count / count.sum() for name, count in counts.items()}
    centres = (np.arange(bins) + 0.5) / bins
    return pd.DataFrame({"prior_quantile": centres, "prior": 1 / bins, **shares})


class Plane:
    """The line or plane in which codes are drawn.

    Codes of one or two dimensions are drawn as they are; of more, in the directions in which they
    vary most, their two leading principal components.

    Args:
        codes: the codes [n, d] that are to be drawn.

    Attributes:
        names: what the coordinates are, one or two.
    """

    def __init__(self, codes: Tensor) -> None:
        latent_dim = codes.shape[1]
        if latent_dim <= 2:
            self.origin, self.axes = torch.zeros(latent_dim), torch.eye(latent_dim)
            one, two = ["code"], ["code, dimension 1", "code, dimension 2"]
            self.names = one if latent_dim == 1 else two
        else:
            self.origin = codes.mean(0)
            _, vectors = torch.linalg.eigh(codes.T.cov())
            leading = vectors.T.flip(0)[:2]
            # The sign of a component is free: its largest weight is to be positive.
            signs = leading.gather(1, leading.abs().argmax(1, keepdim=True)).sign()
            self.axes = leading * signs
            self.names = ["first component of the codes", "second component of the codes"]

    def coordinates(self, codes: Tensor) -> Tensor:
        """Return where codes [n, d] lie: [n, 1] or [n, 2]."""
        return (codes - self.origin) @ self.axes.T

    def codes(self, coordinates: Tensor) -> Tensor:
        """Return the codes [n, d] in the plane at coordinates [n, 1] or [n, 2]."""
        return self.origin + coordinates @ self.axes

    def limits(self, codes: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
        """Lower and upper end of what a picture of codes and prior has to show, with a margin."""
        if len(self.origin) <= 2:
            low, high = visible_range(codes, prior)
        else:
            shown = torch.tensor([0.005, 0.995])
            ends = [
                self.coordinates(points).quantile(shown, dim=0)
                for points in (codes, reference_sample(prior))
            ]
            low, high = torch.stack(ends).amin((0, 1)), torch.stack(ends).amax((0, 1))
        margin = 0.05 * (high - low)
        return low - margin, high + margin


@dataclass(frozen=True)
class PlaneDensity:
    """Density of the prior in a plane.

    Attributes:
        x: centres of the cells along the first coordinate [CELLS].
        y: along the second [CELLS].
        density: at each cell [y, x].
        levels: rising; the contours there enclose the shares :data:`ENCLOSED` of the prior.
    """

    x: Array
    y: Array
    density: Array
    levels: list[float]


def plane_density(prior: Prior, plane: Plane, low: Tensor, high: Tensor) -> PlaneDensity:
    """Return the density of a prior of two or more dimensions between two corners of a plane.

    The product of two independent dimensions; else the smoothed histogram of a large sample.
    """
    from scipy.ndimage import gaussian_filter

    edges = [np.linspace(a, b, CELLS + 1) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    x, y = ((edge[1:] + edge[:-1]) / 2 for edge in edges)
    step = ((high - low) / CELLS).numpy()
    cell = float(step.prod())
    if prior.univariate and prior.latent_dim == 2:
        first, second = (
            prior.bin_densities(torch.from_numpy(edge).float(), dimension).numpy()
            for dimension, edge in enumerate(edges)
        )
        density = (second[:, None] * first[None, :]).astype(float)
        ordered = np.sort(density, axis=None)[::-1]
        mass = np.cumsum(ordered) * cell
        found = [ordered[np.searchsorted(mass, x)] for x in ENCLOSED if x <= mass[-1]]
    else:
        sample = plane.coordinates(reference_sample(prior)).numpy()
        counts, _, _ = np.histogram2d(sample[:, 0], sample[:, 1], edges)
        density = gaussian_filter(counts.T / (len(sample) * cell), sigma=1.5)
        # Where as many samples as a contour is to enclose are: smoothing has widened the density.
        column, row = ((sample - low.numpy()) / step).astype(int).T
        inside = (column >= 0) & (column < CELLS) & (row >= 0) & (row < CELLS)
        at_samples = np.where(inside, density[row.clip(0, CELLS - 1), column.clip(0, CELLS - 1)], 0)
        found = [np.quantile(at_samples, 1 - share) for share in ENCLOSED]
    # A hair below, so that a flat density has its edge as contour.
    levels = {0.999 * float(level) for level in found if level > 0}
    return PlaneDensity(x, y, density, sorted(levels))


def reference_sample(prior: Prior) -> Tensor:
    """A large sample of the prior [4 · REFERENCE_SIZE, d], the same at every call."""
    return prior.sample(4 * REFERENCE_SIZE, stream(0, "sample of the prior for pictures"))
