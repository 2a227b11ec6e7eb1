"""A prior p(z) over codes, made of a ``torch.distributions.Distribution``.

A univariate distribution becomes one of ``latent_dim`` independent components; a multivariate one
(``MultivariateNormal``, ``GaussianRing``) must have as many dimensions as the codes.
"""

import math
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor
from torch.distributions import Distribution, Transform, constraints

from aae.errors import ParameterError
from aae.priors.distributions import centres
from aae.seeding import stream

# Size of the sample that replaces a closed form where a distribution has none.
REFERENCE_SIZE = 2**16


class Prior:
    """The prior p(z) over codes of ``latent_dim`` dimensions.

    Args:
        distribution: any continuous distribution without batch dimensions.
        latent_dim: number of dimensions d of a code.

    Raises:
        ParameterError: if the distribution is multivariate and does not have ``latent_dim``
            dimensions, or if single precision cannot represent its samples.

    Example:
        >>> prior = Prior(torch.distributions.Gamma(2.0, 1.0), latent_dim=2)
        >>> prior.sample(1000, torch.Generator().manual_seed(0)).shape
        torch.Size([1000, 2])
        >>> prior.mean
        tensor([2., 2.])
    """

    def __init__(self, distribution: Distribution, latent_dim: int) -> None:
        self.univariate = distribution.event_shape == ()
        if not self.univariate and distribution.event_shape != (latent_dim,):
            raise ParameterError(
                f"distribution: {type(distribution).__name__} has {distribution.event_shape[0]} "
                f"dimensions and latent_dim is {latent_dim}; they must be equal"
            )
        self.distribution = distribution
        self.latent_dim = latent_dim
        self.device = torch.device("cpu")
        # Codes are float32, which distinguishes about 10^7 values.
        fits = self.scale.isfinite() & (self.scale > 1e-5 * self.mean.abs())
        if not fits.all():
            raise ParameterError(
                f"distribution: {distribution} has mean {self.mean.tolist()} and standard "
                f"deviation {self.scale.tolist()}, too far apart for codes in single precision"
            )
        low, high = self.sample(1000, stream(0, "spread of the prior")).quantile(
            torch.tensor([0.25, 0.75]), dim=0
        )
        if (low == high).any():
            raise ParameterError(
                f"distribution: {distribution} has half of its samples at one place in single "
                "precision"
            )

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw samples [count, d]; the generator and the kind of device determine them.

        ``torch.distributions`` can only draw from the global generator of its device. That one is
        therefore seeded from ``generator``, a generator of the CPU, and restored after the call.
        """
        seed = torch.randint(2**62, (), generator=generator).item()
        shape = (count, self.latent_dim) if self.univariate else (count,)
        # Both draw the same numbers, but `Normal.sample` first reads its parameters, and would
        # wait for a GPU.
        found = self.distribution
        draw = found.rsample if found.has_rsample else found.sample
        read = torch.default_generator
        if self.device.type == "cuda":
            read = torch.cuda.default_generators[self.device.index]
        # `torch.random.fork_rng` and `torch.manual_seed` would take seven times as long as the
        # rest of this function.
        state = read.get_state()
        try:
            read.manual_seed(int(seed))
            with torch.no_grad():
                return draw(shape)
        finally:
            read.set_state(state)

    def to(self, device: torch.device | str) -> Self:
        """Return a copy whose samples, mean and scale are on a device; the rest needs a CPU."""
        moved = _to(self, torch.device(device), {})
        moved.device = moved.mean.device
        return moved

    @cached_property
    def _reference(self) -> Tensor:
        """A large sample [REFERENCE_SIZE, d], the same at every call."""
        return self.sample(REFERENCE_SIZE, stream(0, "reference sample of the prior"))

    @cached_property
    def has_variance(self) -> bool:
        """Whether mean and standard deviation exist and are known."""
        try:
            mean, scale = self.distribution.mean, self.distribution.stddev
        except NotImplementedError:
            return False
        return bool((mean.isfinite() & scale.isfinite() & (scale > 0)).all())

    @cached_property
    def _location_and_scale(self) -> tuple[Tensor, Tensor]:
        if self.has_variance:
            mean, scale = self.distribution.mean, self.distribution.stddev
        else:
            low, mean, high = self._reference.quantile(torch.tensor([0.25, 0.5, 0.75]), dim=0)
            scale = (high - low) / 1.349  # a Gaussian's interquartile range in standard deviations
        return mean.expand(self.latent_dim).clone(), scale.expand(self.latent_dim).clone()

    @property
    def mean(self) -> Tensor:
        """Mean [d]; the median where mean or standard deviation do not exist or are not known."""
        return self._location_and_scale[0]

    @property
    def scale(self) -> Tensor:
        """Standard deviation [d]; where it is missing, estimated from the interquartile range."""
        return self._location_and_scale[1]

    @property
    def support(self) -> tuple[Tensor, Tensor]:
        """Lower and upper end [d] of the support of each dimension; infinite where it has none."""
        constraint = self.distribution.support
        while isinstance(constraint, constraints.independent):
            constraint = constraint.base_constraint
        if constraint is constraints.simplex:
            constraint = constraints.unit_interval
        ends = (
            getattr(constraint, name, infinity)
            for name, infinity in (("lower_bound", -math.inf), ("upper_bound", math.inf))
        )
        low, high = (torch.as_tensor(end).float().expand(self.latent_dim) for end in ends)
        return low, high

    def density(self, points: Tensor, dimension: int) -> Tensor:
        """Marginal density of one dimension at ``points`` [n]; zero outside the support.

        Exact for a univariate distribution. The marginals of a multivariate one have no closed
        form in general: it is the histogram of a large sample.
        """
        if not self.univariate:
            density, edges = torch.histogram(self._reference[:, dimension], 100, density=True)
            bins = torch.bucketize(points, edges) - 1
            inside = (bins >= 0) & (bins < len(density))
            return torch.where(inside, density[bins.clamp(0, len(density) - 1)], 0.0)
        # At the ends of the support a density may be infinite or undefined.
        inside = self.distribution.support.check(points)  # type: ignore[union-attr]
        some_point_inside = self._reference[0, dimension]
        log_density = self.distribution.log_prob(torch.where(inside, points, some_point_inside))
        return torch.where(inside, log_density.exp().nan_to_num(posinf=0.0), 0.0)

    def bin_densities(self, edges: Tensor, dimension: int) -> Tensor:
        """Mean marginal density [n] of one dimension between successive ``edges`` [n + 1].

        Exact where the distribution has a cdf, else by Chebyshev-Gauss quadrature, whose points
        are denser towards the ends of the support, where a density may be infinite.
        """
        low, high = (end[dimension].item() for end in self.support)
        within = edges.clamp(low, high)
        if self.univariate:
            try:
                # Differences of nearly equal numbers: in double precision.
                below = self.distribution.cdf(within.double())
                return (below.diff() / edges.double().diff()).float()
            except (NotImplementedError, ValueError):
                pass  # it has no cdf, or, like Gumbel, refuses values that are far away
        angles = math.pi * centres(20)
        points = within[:-1, None] + within.diff()[:, None] * (angles / 2).sin() ** 2
        found = self.density(points.flatten(), dimension).unflatten(0, points.shape)
        shares = found @ (angles.sin() / angles.sin().sum()) * within.diff()
        return shares / edges.diff()

    def quantiles(self, probabilities: Tensor) -> Tensor:
        """Marginal quantiles [n, d] at ``probabilities`` [n].

        Exact where the distribution has an inverse cdf, from a large sample otherwise.
        """
        if self.univariate:
            try:
                values = self.distribution.icdf(probabilities)
            except NotImplementedError:
                values = self._reference[:, 0].quantile(probabilities)
            return values[:, None].expand(-1, self.latent_dim).clone()
        return self._reference.quantile(probabilities, dim=0)

    def grid(self, points: int) -> Tensor:
        """Equally probable codes [points², d] for decoding, from one or two dimensions.

        In one dimension they are quantiles, in order. In two, code i · points + j is at quantile i
        of dimension 1 and, among the samples near that, at quantile j of dimension 2. For
        independent dimensions that is the grid of all pairs of quantiles; for others every code
        comes from a large sample, so that none lies where the prior has no mass.
        """
        if self.latent_dim == 1:
            return self.quantiles(centres(points**2))
        if self.univariate:
            return torch.cartesian_prod(*self.quantiles(centres(points)).T)
        columns = self._reference[self._reference[:, 0].argsort()].tensor_split(points)
        return torch.cat(
            [
                column[column[:, 1].argsort()[(centres(points) * len(column)).long()]]
                for column in columns
            ]
        )

    def ranks(self, codes: Tensor) -> Tensor:
        """Rank of each value of codes [n, d]: the share of a large sample of the prior below it."""
        ordered = self._reference.sort(0).values.T.contiguous()
        return (torch.searchsorted(ordered, codes.T.contiguous()) / REFERENCE_SIZE).T


def _to(part: Any, device: torch.device, copies: dict[int, Any]) -> Any:
    """Return a copy of a prior, or of a part of one, with its tensors on a device.

    ``torch.distributions`` has no such method.
    """
    if isinstance(part, Tensor):
        return part.to(device)
    if isinstance(part, list | tuple):
        return type(part)(_to(item, device, copies) for item in part)
    if isinstance(part, Prior | Distribution | Transform):
        if id(part) not in copies:  # transform and inverse know each other
            copies[id(part)] = copy = object.__new__(type(part))
            copy.__dict__ |= {name: _to(x, device, copies) for name, x in vars(part).items()}
        return copies[id(part)]
    return part
