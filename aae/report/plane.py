"""The plane in which codes are drawn, and the density of the prior in it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aae.evaluation.histograms import visible_range
from aae.priors import Prior
from aae.priors.prior import REFERENCE_SIZE
from aae.seeding import stream

Array = NDArray[np.float64]

# Shares of the prior that its contours enclose.
ENCLOSED = (0.25, 0.5, 0.75, 0.95)
# Cells along each side of the grid on which a density in the plane is computed.
CELLS = 120


class Plane:
    """The line or plane in which codes are drawn.

    Codes of one or two dimensions are drawn directly. Codes of more dimensions are projected onto
    their two leading principal components.

    Args:
        codes: the codes [n, d] to draw.

    Attributes:
        names: names of the one or two coordinates.
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
            # The sign of a component is arbitrary; a positive largest weight makes it reproducible.
            signs = leading.gather(1, leading.abs().argmax(1, keepdim=True)).sign()
            self.axes = leading * signs
            self.names = ["first component of the codes", "second component of the codes"]

    def coordinates(self, codes: Tensor) -> Tensor:
        """Return the coordinates of codes [n, d]: [n, 1] or [n, 2]."""
        return (codes - self.origin) @ self.axes.T

    def codes(self, coordinates: Tensor) -> Tensor:
        """Return the codes [n, d] at coordinates [n, 1] or [n, 2] of the plane."""
        return self.origin + coordinates @ self.axes

    def limits(self, codes: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
        """Return the lower and upper ends of a picture of codes and prior, with a margin."""
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
    """The density of the prior in a plane.

    Attributes:
        x: centres [CELLS] of the cells along the first coordinate.
        y: centres [CELLS] of the cells along the second.
        density: density [y, x] in each cell.
        levels: increasing levels, whose contours enclose the shares :data:`ENCLOSED` of the prior.
    """

    x: Array
    y: Array
    density: Array
    levels: list[float]


def plane_density(prior: Prior, plane: Plane, low: Tensor, high: Tensor) -> PlaneDensity:
    """Return the density of a prior of two or more dimensions between two corners of a plane.

    For two independent dimensions it is the product of their densities; otherwise it is the
    smoothed histogram of a large sample.
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
        # The levels come from the samples inside, because smoothing has widened the density.
        column, row = ((sample - low.numpy()) / step).astype(int).T
        inside = (column >= 0) & (column < CELLS) & (row >= 0) & (row < CELLS)
        at_samples = np.where(inside, density[row.clip(0, CELLS - 1), column.clip(0, CELLS - 1)], 0)
        found = [np.quantile(at_samples, 1 - share) for share in ENCLOSED]
    # Slightly lower levels, so that the contour of a flat density is its edge.
    levels = {0.999 * float(level) for level in found if level > 0}
    return PlaneDensity(x, y, density, sorted(levels))


def reference_sample(prior: Prior) -> Tensor:
    """Return a large sample of the prior [4 · REFERENCE_SIZE, d], always the same."""
    return prior.sample(4 * REFERENCE_SIZE, stream(0, "sample of the prior for pictures"))
