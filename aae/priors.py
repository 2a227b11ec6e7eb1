"""The latent priors p(z), as torch.distributions.

A prior is named in params.yaml by a class of ``torch.distributions``, or by one of the two at the
end of this file, and its arguments. A univariate class is extended to ``latent_dim`` dimensions by
independent components; a multivariate one (``MultivariateNormal``, ``GaussianRing``) must have as
many dimensions as the codes.
"""

import math
import weakref
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor
from torch.distributions import Distribution, Transform, constraints

from aae.errors import ParameterError
from aae.seeding import stream

# Size of the sample that stands in where a distribution has no closed form for something.
REFERENCE_SIZE = 2**16

Shape = torch.Size | list[int] | tuple[int, ...]


class Prior:
    """The prior p(z) over codes of ``latent_dim`` dimensions.

    Args:
        distribution: any continuous distribution without batch dimensions.
        latent_dim: number of dimensions d of a code.

    Raises:
        ParameterError: if the distribution is multivariate and its size is not ``latent_dim``, or
            if single precision cannot hold its samples.

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
        # Codes are kept in single precision, which tells 10^7 values apart.
        fits = self.scale.isfinite() & (self.scale > 1e-5 * self.mean.abs())
        if not fits.all():
            raise ParameterError(
                f"distribution: {distribution} has mean {self.mean.tolist()} and standard "
                f"deviation {self.scale.tolist()}, too far apart for codes in single precision"
            )

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw codes [count, d], determined by the generator alone.

        ``torch.distributions`` reads the global generator of its device and takes no other. It is
        therefore seeded from ``generator``, one of the processor, for the time of the call and put
        back afterwards.
        """
        seed = torch.randint(2**62, (), generator=generator).item()
        shape = (count, self.latent_dim) if self.univariate else (count,)
        # Both draw the same numbers, but `Normal.sample` looks at its parameters first, for which
        # it would wait for a GPU.
        found = self.distribution
        draw = found.rsample if found.has_rsample else found.sample
        read = torch.default_generator
        if self.device.type == "cuda":
            read = torch.cuda.default_generators[self.device.index]
        # In the place of `torch.random.fork_rng` and `torch.manual_seed`, which take seven times
        # longer than the rest.
        state = read.get_state()
        try:
            read.manual_seed(int(seed))
            with torch.no_grad():
                return draw(shape)
        finally:
            read.set_state(state)

    def to(self, device: torch.device | str) -> Self:
        """Return the same prior with samples that are drawn on a device.

        They are determined by the generator and the kind of device.
        """
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
        """Mean [d]; the median where a mean or a standard deviation does not exist."""
        return self._location_and_scale[0]

    @property
    def scale(self) -> Tensor:
        """Standard deviation [d]; from the interquartile range where it does not exist."""
        return self._location_and_scale[1]

    @property
    def support(self) -> tuple[Tensor, Tensor]:
        """Lower and upper end [d] of each dimension's support; infinite where there is none."""
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

        Exact for a univariate distribution; for a multivariate one, whose marginals have no
        closed form in general, the histogram of a large sample.
        """
        if not self.univariate:
            density, edges = torch.histogram(self._reference[:, dimension], 100, density=True)
            bins = torch.bucketize(points, edges) - 1
            inside = (bins >= 0) & (bins < len(density))
            return torch.where(inside, density[bins.clamp(0, len(density) - 1)], 0.0)
        # The ends of the support are left out: a density may be infinite or undefined there.
        inside = self.distribution.support.check(points)  # type: ignore[union-attr]
        some_point_inside = self._reference[0, dimension]
        log_density = self.distribution.log_prob(torch.where(inside, points, some_point_inside))
        return torch.where(inside, log_density.exp().nan_to_num(posinf=0.0), 0.0)

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

        In one dimension they are quantiles, in order. In two, those of dimension 1 and, among the
        codes there, those of dimension 2: code i · points + j is the j-th of the i-th. For
        independent dimensions that is the grid of all pairs of quantiles; for others every code is
        one of a large sample, so that none falls where the prior has nothing.
        """
        if self.latent_dim == 1:
            return self.quantiles(_centres(points**2))
        if self.univariate:
            return torch.cartesian_prod(*self.quantiles(_centres(points)).T)
        columns = self._reference[self._reference[:, 0].argsort()].tensor_split(points)
        return torch.cat(
            [
                column[column[:, 1].argsort()[(_centres(points) * len(column)).long()]]
                for column in columns
            ]
        )

    def ranks(self, codes: Tensor) -> Tensor:
        """Share of a large sample of the prior that is below each value of codes [n, d]."""
        ordered = self._reference.sort(0).values.T.contiguous()
        return (torch.searchsorted(ordered, codes.T.contiguous()) / REFERENCE_SIZE).T


class GaussianRing(Distribution):
    """Gaussians on a ring in the plane, equally probable, each elongated along its radius.

    Makhzani et al. 2015, https://arxiv.org/abs/1511.05644, figure 2: ten of them.

    Args:
        components: how many.
        radius: distance of their means from the origin.
        radial_std: standard deviation along the radius.
        tangential_std: standard deviation across it.
    """

    arg_constraints = {  # noqa: RUF012 (as in torch.distributions)
        "components": constraints.positive_integer,
        "radius": constraints.nonnegative,
        "radial_std": constraints.positive,
        "tangential_std": constraints.positive,
    }
    support = constraints.real_vector

    def __init__(
        self,
        components: Tensor,
        radius: Tensor,
        radial_std: Tensor,
        tangential_std: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        self.components, self.radius = components, radius
        self.count = int(components)  # a number here: nothing waits for a GPU to know it
        self.radial_std, self.tangential_std = radial_std, tangential_std
        super().__init__(torch.Size(), torch.Size([2]), validate_args)

    def _directions(self, component: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors [..., 2] along and across the radius of each component."""
        angle = 2 * math.pi * component / self.count
        along = torch.stack([angle.cos(), angle.sin()], dim=-1)
        return along, torch.stack([-angle.sin(), angle.cos()], dim=-1)

    @property
    def mean(self) -> Tensor:
        """Mean [2]."""
        along, _ = self._directions(torch.arange(self.count, device=self.radius.device))
        return self.radius * along.mean(0)

    @property
    def variance(self) -> Tensor:
        """Variance [2] of each dimension: that of the means, and the mean one around them."""
        along, across = self._directions(torch.arange(self.count, device=self.radius.device))
        around = (self.radial_std * along) ** 2 + (self.tangential_std * across) ** 2
        return (self.radius * along).var(0, correction=0) + around.mean(0)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw codes [*sample_shape, 2]."""
        device = self.radius.device
        component = torch.randint(self.count, sample_shape, device=device)
        along, across = self._directions(component)
        first, second = torch.randn(2, *sample_shape, 1, device=device)
        return (
            self.radius + self.radial_std * first
        ) * along + self.tangential_std * second * across


class SwissRoll(Distribution):
    """A spiral r ∝ φ in the plane that unrolls from the origin, with Gaussian noise around it.

    Makhzani et al. 2015, https://arxiv.org/abs/1511.05644, figure 4. Far from the origin it is
    equally dense along its length.

    Args:
        turns: how often it goes round.
        radius: distance of its end from the origin.
        noise: standard deviation of the noise, in each dimension.
    """

    arg_constraints = {  # noqa: RUF012 (as in torch.distributions)
        "turns": constraints.positive,
        "radius": constraints.positive,
        "noise": constraints.nonnegative,
    }
    support = constraints.real_vector

    def __init__(
        self, turns: Tensor, radius: Tensor, noise: Tensor, validate_args: bool | None = None
    ) -> None:
        self.turns, self.radius, self.noise = turns, radius, noise
        super().__init__(torch.Size(), torch.Size([2]), validate_args)

    def _roll(self, share: Tensor) -> Tensor:
        """Points [..., 2] that have ``share`` of the spiral's length before them."""
        way = share.sqrt()  # the length of a spiral grows with the square of its radius
        angle = 2 * math.pi * self.turns * way
        return self.radius * way[..., None] * torch.stack([angle.cos(), angle.sin()], dim=-1)

    @property
    def mean(self) -> Tensor:
        """Mean [2], by the midpoint rule."""
        return self._roll(_centres(REFERENCE_SIZE)).mean(0)

    @property
    def variance(self) -> Tensor:
        """Variance [2] of each dimension, by the midpoint rule."""
        return self._roll(_centres(REFERENCE_SIZE)).var(0, correction=0) + self.noise**2

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw codes [*sample_shape, 2]."""
        device = self.radius.device
        points = self._roll(torch.rand(sample_shape, device=device))
        return points + self.noise * torch.randn(*sample_shape, 2, device=device)


def _to(part: Any, device: torch.device, copies: dict[int, Any]) -> Any:
    """A copy of a prior, or of a part of one, with its tensors on a device.

    ``torch.distributions`` has nothing for it.
    """
    if isinstance(part, Tensor):
        return part.to(device)
    if isinstance(part, list | tuple):
        return type(part)(_to(item, device, copies) for item in part)
    if isinstance(part, weakref.ref):
        return None  # a transform's inverse, which it makes again when it is asked for
    if isinstance(part, Prior | Distribution | Transform):
        if id(part) not in copies:  # transform and inverse know each other
            copies[id(part)] = copy = object.__new__(type(part))
            copy.__dict__ |= {name: _to(x, device, copies) for name, x in vars(part).items()}
        return copies[id(part)]
    return part


def _centres(count: int) -> Tensor:
    """Centres [count] of equal parts of the interval from 0 to 1."""
    return (torch.arange(count) + 0.5) / count
