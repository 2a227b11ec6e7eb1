"""Units of the codes: the coordinates that the networks use, in which the prior is N(0, I).

An encoder ends in a linear layer, so its outputs can lie anywhere and change smoothly from image to
image. A prior with edges (uniform, gamma), a peak at an edge (beta), heavy tails or gaps (mixture,
swiss roll) is hard to match with such outputs, and noise on a code could leave the prior's support.
The networks therefore work with units h instead of codes z = T(h). The map T is invertible and
turns N(0, I) into the prior: in each dimension the cdf of a Gaussian, then the inverse cdf of the
prior, or the Rosenblatt transformation (1952, https://doi.org/10.1214/aoms/1177729394) where one
dimension depends on the other. An invertible map changes neither the discriminator's best loss nor
the divergence that the generator minimises (Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661,
section 4.1), so units that follow N(0, I) are codes that follow the prior.

A training sees T⁻¹ of prior samples, not samples of a Gaussian. An inaccurate T therefore makes the
training harder, but not its result wrong.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributions import (
    Distribution,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    StickBreakingTransform,
)

from aae.priors.prior import Prior
from aae.seeding import stream

# Tables of T reach this many standard deviations to either side. Codes that are further out, seven
# in a million, are moved to the end of the table. (In tables of a conditional distribution, which
# come from smaller samples, the values beyond 3.8 are those of the largest and smallest sample.)
REACH = 4.5
# Entries of a table of one dimension.
KNOTS = 2**12 + 1
# Equally probable parts of the first dimension that have a table of the second, and its entries.
PARTS, PART_KNOTS = 2**7, 2**9 + 1
# Size of the sample that replaces a missing inverse cdf.
SAMPLE_SIZE = 2**20


class Units(nn.Module):
    """An invertible map between units h [n, k] and codes z [n, d].

    Attributes:
        dimensions: number of dimensions k of the units.
    """

    dimensions: int

    def to_codes(self, units: Tensor) -> Tensor:
        """Return the codes [n, d] at units [n, k]."""
        raise NotImplementedError

    def to_units(self, codes: Tensor) -> Tensor:
        """Return the units [n, k] of codes [n, d]."""
        raise NotImplementedError


class Affine(Units):
    """z = m + L·h: exact for a Gaussian with mean m and covariance L·Lᵀ.

    Args:
        mean: m [d].
        factor: L [d, d], lower triangular.
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, mean: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.dimensions = len(mean)
        self.register_buffer("mean", mean)
        self.register_buffer("factor", factor)

    def to_codes(self, units: Tensor) -> Tensor:
        """Return m + L·h."""
        return self.mean + units @ self.factor.T

    def to_units(self, codes: Tensor) -> Tensor:
        """Return L⁻¹·(z − m)."""
        centred = (codes - self.mean).T
        return torch.linalg.solve_triangular(self.factor, centred, upper=False).T


class Chart(Protocol):
    """Coordinates [n, k] of codes [n, d], in which a distribution is easier to describe."""

    def to_chart(self, codes: Tensor) -> Tensor:
        """Return the coordinates of codes."""

    def from_chart(self, coordinates: Tensor) -> Tensor:
        """Return the codes at coordinates."""


class Interval:
    """The chart of a univariate distribution: the codes themselves, within its support."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def to_chart(self, codes: Tensor) -> Tensor:
        """Return the codes."""
        return codes

    def from_chart(self, coordinates: Tensor) -> Tensor:
        """Return the coordinates, moved to the support if rounding has left it."""
        return coordinates.clamp(self.low, self.high)


class Sticks:
    """The chart of a distribution of shares that add up to one: logits of a stick's parts.

    The codes have one dimension more than the coordinates, since the last share is what remains.
    """

    def __init__(self) -> None:
        self.transform = StickBreakingTransform()

    def to_chart(self, codes: Tensor) -> Tensor:
        """Return the logits of the share that each part takes of what remains.

        A negative share, which no code of the prior has, counts as the smallest one.
        """
        return self.transform.inv(codes.clamp(min=torch.finfo(codes.dtype).tiny))

    def from_chart(self, coordinates: Tensor) -> Tensor:
        """Return the shares."""
        return self.transform(coordinates)


class Quantiles(Units):
    """Maps every coordinate of a chart by tables of its quantiles.

    Args:
        chart: the coordinates.
        tables: values of each coordinate at Gaussian quantiles from −REACH to REACH [k, KNOTS], or
            of all coordinates [1, KNOTS].
        dimensions: number k of coordinates.
    """

    tables: Tensor

    def __init__(self, chart: Chart, tables: Tensor, dimensions: int) -> None:
        super().__init__()
        self.chart, self.dimensions = chart, dimensions
        self.register_buffer("tables", tables)

    def to_codes(self, units: Tensor) -> Tensor:
        """Return the codes at the same quantiles as the units."""
        return self.chart.from_chart(self._map(units, _knots(self.tables), self.tables))

    def to_units(self, codes: Tensor) -> Tensor:
        """Return the units at the same quantiles as the codes."""
        return self._map(self.chart.to_chart(codes), self.tables, _knots(self.tables))

    def _map(self, points: Tensor, x: Tensor, y: Tensor) -> Tensor:
        # One row for all coordinates, or one each
        rows = points.T.reshape(len(self.tables), -1).contiguous()
        return _interpolate(rows, x, y).view(self.dimensions, -1).T


class Rosenblatt(Units):
    """Maps the first of two coordinates by its quantiles, the second by those given the first.

    Args:
        chart: the coordinates.
        table: values [1, KNOTS] of the first coordinate at Gaussian quantiles.
        rows: values [PARTS, PART_KNOTS] of the second at Gaussian quantiles, in equally probable
            parts of the first; between the centres of parts they are interpolated.
    """

    table: Tensor
    rows: Tensor

    def __init__(self, chart: Chart, table: Tensor, rows: Tensor) -> None:
        super().__init__()
        self.chart, self.dimensions = chart, 2
        self.register_buffer("table", table)
        self.register_buffer("rows", rows)

    def to_codes(self, units: Tensor) -> Tensor:
        """Return the codes at the same conditional quantiles as the units."""
        one, two = units.T[:, :, None]
        own = self._rows_at(one[:, 0])
        first = _interpolate(one.T.contiguous(), _knots(self.table), self.table)
        second = _interpolate(two.contiguous(), _knots(own), own)
        return self.chart.from_chart(torch.cat([first.T, second], dim=1))

    def to_units(self, codes: Tensor) -> Tensor:
        """Return the units at the same conditional quantiles as the codes."""
        first, second = self.chart.to_chart(codes).T[:, :, None]
        one = _interpolate(first.T.contiguous(), self.table, _knots(self.table)).T
        own = self._rows_at(one[:, 0])
        return torch.cat([one, _interpolate(second.contiguous(), own, _knots(own))], dim=1)

    def _rows_at(self, first: Tensor) -> Tensor:
        """Return the table [n, PART_KNOTS] of the second coordinate at units [n] of the first."""
        place = (torch.special.ndtr(first) * len(self.rows) - 0.5).clamp(0, len(self.rows) - 1)
        below = place.floor().long().clamp(max=len(self.rows) - 2)
        return torch.lerp(self.rows[below], self.rows[below + 1], (place - below)[:, None])


def identity(latent_dim: int) -> Units:
    """Return the units of a model without a prior, which are its codes."""
    return Affine(torch.zeros(latent_dim), torch.eye(latent_dim))


def gaussian_units(prior: Prior, fitted: bool = True) -> Units:
    """Return the units in which a prior is N(0, I).

    This is exact up to the tables, but for a relaxed one-hot distribution: each of its units is a
    Gaussian, and they are not quite independent. The training then has to learn the dependence.

    Args:
        prior: the prior.
        fitted: whether to compute the tables; without, they are to be loaded from a file.

    Example:
        >>> prior = Prior(torch.distributions.Exponential(1.0), latent_dim=1)
        >>> gaussian_units(prior).to_codes(torch.zeros(1, 1))  # the median, ln 2
        tensor([[0.6931]])
    """
    found, d = prior.distribution, prior.latent_dim
    if isinstance(found, Normal):
        return Affine(prior.mean, torch.diag(prior.scale))
    if isinstance(found, MultivariateNormal):
        return Affine(prior.mean, found.scale_tril)
    if isinstance(found, LowRankMultivariateNormal):
        # In single precision a small diagonal would vanish beside the factor.
        factor = found.cov_factor.double()
        covariance = factor @ factor.T + torch.diag(found.cov_diag.double())
        return Affine(prior.mean, torch.linalg.cholesky(covariance).float())
    if hasattr(found, "to_chart"):
        return _rosenblatt(found, fitted)
    if prior.univariate:
        low, high = (end[0].item() for end in prior.support)
        table = _univariate_table(found) if fitted else torch.zeros(KNOTS)
        return Quantiles(Interval(low, high), table[None], d)
    # All other multivariate distributions that a prior can have are distributions of shares.
    sticks = Sticks()
    if not fitted:
        return Quantiles(sticks, torch.zeros(d - 1, KNOTS), d - 1)
    coordinates = sticks.to_chart(_sample(found))
    return Quantiles(sticks, torch.stack([_table(x, KNOTS) for x in coordinates.T]), d - 1)


def _univariate_table(distribution: Distribution) -> Tensor:
    """Return the quantiles [KNOTS] of a univariate distribution at the knots."""
    try:
        levels = torch.special.ndtr(torch.linspace(-REACH, REACH, KNOTS, dtype=torch.double))
        table = distribution.icdf(levels).float()
        if table.isfinite().all() and (table.diff() >= 0).all():
            return table
    except (NotImplementedError, ValueError):
        pass  # it has no inverse cdf, or one that rejects values near 0 and 1
    return _table(_sample(distribution), KNOTS)


def _rosenblatt(distribution: Distribution, fitted: bool) -> Rosenblatt:
    chart: Chart = distribution  # type: ignore[assignment]
    if not fitted:
        return Rosenblatt(chart, torch.zeros(1, KNOTS), torch.zeros(PARTS, PART_KNOTS))
    coordinates = chart.to_chart(_sample(distribution))
    coordinates = coordinates[coordinates[:, 0].argsort()]
    rows = [_table(part[:, 1], PART_KNOTS) for part in coordinates.tensor_split(PARTS)]
    return Rosenblatt(chart, _table(coordinates[:, 0], KNOTS)[None], torch.stack(rows))


def _sample(distribution: Distribution) -> Tensor:
    """Return a large sample [n, …], always the same; smaller if it has many dimensions."""
    shape = distribution.event_shape
    prior = Prior(distribution, shape[0] if shape else 1)
    count = min(SAMPLE_SIZE, 2 * SAMPLE_SIZE // prior.latent_dim)
    return prior.sample(count, stream(0, "tables of the units")).view(-1, *shape)


def _table(sample: Tensor, knots: int) -> Tensor:
    """Return the quantiles [knots] of a sample at Gaussian quantiles from −REACH to REACH."""
    ordered = sample.double().sort().values
    levels = torch.special.ndtr(torch.linspace(-REACH, REACH, knots, dtype=torch.double))
    samples_at = (torch.arange(len(ordered), dtype=torch.double) + 0.5) / len(ordered)
    return _interpolate(levels[None], samples_at[None], ordered[None])[0].float()


def _knots(tables: Tensor) -> Tensor:
    """Return the Gaussian quantiles at which tables [..., K] hold values, with the same shape."""
    return torch.linspace(-REACH, REACH, tables.shape[-1], device=tables.device).expand_as(tables)


def _interpolate(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return a piecewise linear function at points [r, n], row by row; constant beyond its ends.

    Args:
        at: the points.
        x: increasing abscissas [r, K] of the function.
        y: its values [r, K].
    """
    at = at.clamp(x[:, :1], x[:, -1:])
    right = torch.searchsorted(x.contiguous(), at).clamp(1, x.shape[1] - 1)
    x0, x1 = x.gather(1, right - 1), x.gather(1, right)
    y0, y1 = y.gather(1, right - 1), y.gather(1, right)
    # Two abscissas may be equal, if single precision or the sample cannot tell two quantiles apart.
    share = torch.where(x1 > x0, (at - x0) / (x1 - x0), 0.5)
    return y0 + share * (y1 - y0)
