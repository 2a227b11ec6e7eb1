"""A prior p(z) over codes, built from a ``torch.distributions.Distribution``.

A univariate distribution applies to each of the ``latent_dim`` dimensions independently; a
multivariate one (``MultivariateNormal``, ``GaussianRing``) must have as many dimensions as the
codes.
"""

import math
import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor
from torch.distributions import Distribution, Transform, constraints

from aae.errors import ParameterError
from aae.priors.distributions import GaussianRing, Stretch, SwissRoll, centres
from aae.seeding import stream

# Size of the sample that replaces a closed form if a distribution has none.
REFERENCE_SIZE = 2**16
# Number of samples that are checked, the largest share of them that may be equal, and the limit of
# their size, also in units of the prior's scale.
CHECKED, MOST_EQUAL, LARGEST = 10_000, 0.005, 1e15
# Number of samples that the density at a code is compared with.
COMPARED = 10_000

# Held while torch's global generator is seeded: a server draws in several threads.
_drawing = threading.Lock()


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
        # Codes are float32, which has a precision of about 1 in 10^7.
        fits = self.scale.isfinite() & (self.scale > 1e-5 * self.mean.abs())
        if not fits.all():
            raise ParameterError(
                f"distribution: {type(distribution).__name__} has mean {self.mean.tolist()} and "
                f"standard deviation {self.scale.tolist()}, too far apart for codes in single "
                "precision"
            )
        self._check_samples()

    def _check_samples(self) -> None:
        """Check that single precision can represent the samples, and that torch draws them right.

        torch's samplers of beta, gamma and other distributions collapse for small arguments: a
        quarter of the samples of Beta(0.001, 0.001) are exactly 0.5.
        """
        count = math.ceil(CHECKED / self.latent_dim) if self.univariate else CHECKED
        samples = self.sample(count, stream(0, "check of the prior"))
        name = type(self.distribution).__name__
        columns = samples.view(1, -1) if self.univariate else samples.T
        if not (samples.abs() < LARGEST * self.scale.clamp(max=1)).all():
            raise ParameterError(
                f"distribution: {name} has samples that are too large for single precision"
            )
        for column in columns:
            values, counts = column.unique(return_counts=True)
            share = counts.max().item() / len(column)
            if share > MOST_EQUAL:
                raise ParameterError(
                    f"distribution: {share:.1%} of the samples of {name} are the "
                    f"same number, {values[counts.argmax()].item():g}, in single precision"
                )

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw samples [count, d]; the generator and the type of device determine them.

        ``torch.distributions`` can only draw from the global generator of its device. The method
        therefore seeds that one from ``generator``, a generator of the CPU, and restores it.
        """
        shape = (count, self.latent_dim) if self.univariate else (count,)
        # Both draw the same numbers, but `Normal.sample` first reads its parameters, for which it
        # would wait for a GPU.
        found = self.distribution
        draw = found.rsample if found.has_rsample else found.sample
        return self._seeded(lambda: draw(shape), generator)

    def parts(self, count: int) -> bool:
        """Return whether the prior has ``count`` parts of equal mass: components, or stretches."""
        match self.distribution:
            case GaussianRing(components=components):
                return int(components) % count == 0
            case SwissRoll():
                return True
        return False

    def part(self, number: int, count: int) -> "Prior":
        """Return one of the parts of the prior as a prior; it is the first if ``number`` is 0."""
        assert isinstance(self.distribution, GaussianRing | SwissRoll)
        stretch = Stretch(self.distribution, number / count, (number + 1) / count)
        return Prior(stretch, self.latent_dim)

    def sample_parts(self, numbers: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Draw a sample [n, d] of each part whose number [n] is given; -1 is the whole prior.

        Args:
            numbers: numbers of parts, on the device of the prior.
            count: number of parts that the prior has.
            generator: see :meth:`sample`.
        """
        distribution = self.distribution
        assert isinstance(distribution, GaussianRing | SwissRoll)

        def draw() -> Tensor:
            share = torch.rand(len(numbers), device=numbers.device)
            return distribution.sample_at(
                torch.where(numbers < 0, share, (numbers + share) / count)
            )

        return self._seeded(draw, generator)

    def _seeded(self, draw: Callable[[], Tensor], generator: torch.Generator) -> Tensor:
        """Return what is drawn from torch's global generator, seeded from ``generator``."""
        seed = torch.randint(2**62, (), generator=generator).item()
        read = torch.default_generator
        if self.device.type == "cuda":
            read = torch.cuda.default_generators[self.device.index]
        # `torch.random.fork_rng` and `torch.manual_seed` would take seven times as long as the
        # rest of this function.
        with _drawing:
            state = read.get_state()
            try:
                read.manual_seed(int(seed))
                with torch.no_grad():
                    return draw()
            finally:
                read.set_state(state)

    def to(self, device: torch.device | str) -> Self:
        """Return a copy with samples, mean and scale on a device; other methods need the CPU."""
        moved = _to(self, torch.device(device), {})
        moved.device = moved.mean.device
        return moved

    @cached_property
    def _reference(self) -> Tensor:
        """A large sample [REFERENCE_SIZE, d], always the same."""
        return self.sample(REFERENCE_SIZE, stream(0, "reference sample of the prior"))

    @cached_property
    def _ordered(self) -> Tensor:
        """The sorted values [d, n] of the large sample in each dimension."""
        return self._reference.T.sort().values.contiguous()

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
        """Mean [d], or the median if mean or standard deviation do not exist or are not known."""
        return self._location_and_scale[0]

    @property
    def scale(self) -> Tensor:
        """Standard deviation [d], or an estimate from the interquartile range if it is missing."""
        return self._location_and_scale[1]

    @property
    def support(self) -> tuple[Tensor, Tensor]:
        """Lower and upper ends [d] of the support of each dimension, which may be infinite."""
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
        """Return the marginal density of one dimension at ``points`` [n]; zero outside the support.

        It is exact for a univariate distribution. The marginals of a multivariate one have no
        closed form in general: the histogram of a large sample replaces them.
        """
        if not self.univariate:
            density, edges = torch.histogram(self._reference[:, dimension], 100, density=True)
            bins = torch.bucketize(points, edges) - 1
            inside = (bins >= 0) & (bins < len(density))
            return torch.where(inside, density[bins.clamp(0, len(density) - 1)], 0.0)
        # Outside of the support `log_prob` may raise an error, and at its ends the density may be
        # infinite.
        inside = self.distribution.support.check(points)  # type: ignore[union-attr]
        some_point_inside = self._reference[0, dimension]
        log_density = self.distribution.log_prob(torch.where(inside, points, some_point_inside))
        return torch.where(inside, log_density.exp().nan_to_num(posinf=0.0), 0.0)

    def bin_densities(self, edges: Tensor, dimension: int) -> Tensor:
        """Return the mean marginal density [n] of one dimension between ``edges`` [n + 1].

        It is exact if the distribution has a cdf. Otherwise Chebyshev-Gauss quadrature computes
        it, whose points are denser towards the ends of the support, where a density may be
        infinite.
        """
        low, high = (end[dimension].item() for end in self.support)
        within = edges.clamp(low, high)
        if self.univariate:
            try:
                # Double precision, because these are differences of nearly equal numbers.
                below = self.distribution.cdf(within.double())
                return (below.diff() / edges.double().diff()).float()
            except (NotImplementedError, ValueError):
                pass  # it has no cdf, or its cdf rejects distant values, like that of Gumbel
        angles = math.pi * centres(20)
        points = within[:-1, None] + within.diff()[:, None] * (angles / 2).sin() ** 2
        found = self.density(points.flatten(), dimension).unflatten(0, points.shape)
        shares = found @ (angles.sin() / angles.sin().sum()) * within.diff()
        return shares / edges.diff()

    def quantiles(self, probabilities: Tensor) -> Tensor:
        """Return the marginal quantiles [n, d] at ``probabilities`` [n].

        They are exact if the distribution has an inverse cdf; otherwise they are those of a large
        sample.
        """
        if self.univariate:
            try:
                values = self.distribution.icdf(probabilities)
            except NotImplementedError:
                values = self._reference[:, 0].quantile(probabilities)
            return values[:, None].expand(-1, self.latent_dim).clone()
        return self._reference.quantile(probabilities, dim=0)

    def grid(self, points: int) -> Tensor:
        """Return equally probable codes [points², d] for decoding, in one or two dimensions.

        In one dimension they are quantiles, in order. In two dimensions, code i · points + j is at
        quantile i of dimension 1 and, among the samples near it, at quantile j of dimension 2. For
        independent dimensions this is the grid of all pairs of quantiles. Otherwise every code
        comes from a large sample, so that no code lies where the prior has no mass.
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
        """Return the rank of each value of codes [n, d]: the share of a large sample below it."""
        return (torch.searchsorted(self._ordered, codes.T.contiguous()) / REFERENCE_SIZE).T

    def typicality(self, codes: Tensor) -> Tensor:
        """Return the share [n] of prior samples whose density is not higher than that at codes.

        It is 1 at a code of the highest density and 0 outside of the support. One minus the share
        is the content of the smallest region of highest density that contains the code (Hyndman
        1996, https://doi.org/10.1080/00031305.1996.10474359). If codes follow the prior, their
        shares are uniform between 0 and 1, unless many codes have equal densities: all codes within
        a uniform prior have a share of 1. If the prior has no density, samples count that are not
        nearer to :attr:`mean`, in units of :attr:`scale`. The 10,000 samples are always the same.

        Args:
            codes: codes [n, d]; not a number gives 0.

        Example:
            >>> prior = Prior(torch.distributions.Normal(0.0, 1.0), latent_dim=1)
            >>> prior.typicality(torch.tensor([[0.0], [2.0]])).round(decimals=2)  # 2 standard dev.
            tensor([1.0000, 0.0500])
        """
        found = [self._height(part) for part in codes.double().split(1024)]
        heights = torch.cat(found) if found else torch.empty(0, dtype=torch.double)
        return torch.searchsorted(self._heights, heights, right=True).float() / COMPARED

    @cached_property
    def _heights(self) -> Tensor:
        """The heights [COMPARED] of samples, in order."""
        samples = self.sample(COMPARED, stream(0, "typicality")).double()
        return torch.cat([self._height(part) for part in samples.split(1024)]).sort().values

    def _height(self, codes: Tensor) -> Tensor:
        """Return the logarithm of the density [n], or minus the distance from the mean."""
        support = self.distribution.support
        if support is constraints.simplex:
            # torch tolerates no error above 1e-6 in a sum, which single precision exceeds.
            total = codes.sum(1, keepdim=True)
            codes = torch.where((total - 1).abs() < 1e-4, codes / total, codes)
        # Outside of the support `log_prob` may raise an error.
        inside = support.check(codes)  # type: ignore[union-attr]
        inside = inside.all(1) if self.univariate else inside
        heights = torch.full((len(codes),), -math.inf, dtype=codes.dtype)
        if not inside.any():
            return heights
        try:
            found = self.distribution.log_prob(codes[inside])
        except NotImplementedError:
            found = -((codes[inside] - self.mean) / self.scale).norm(dim=1)
        else:
            found = found.sum(1) if self.univariate else found
        heights[inside] = found.double().nan_to_num(
            nan=-math.inf, posinf=math.inf, neginf=-math.inf
        )
        return heights


def _to(part: Any, device: torch.device, copies: dict[int, Any]) -> Any:
    """Return a copy of a prior, or of a part of one, with its tensors on a device.

    The function exists because ``torch.distributions`` has no method ``to``.
    """
    if isinstance(part, Tensor):
        return part.to(device)
    if isinstance(part, list | tuple):
        return type(part)(_to(item, device, copies) for item in part)
    if isinstance(part, Prior | Distribution | Transform):
        if id(part) not in copies:  # a transform and its inverse refer to each other
            copies[id(part)] = copy = object.__new__(type(part))
            copy.__dict__ |= {name: _to(x, device, copies) for name, x in vars(part).items()}
        return copies[id(part)]
    return part
