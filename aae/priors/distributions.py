"""The distributions that an entry of ``priors`` in params.yaml can name.

These are the continuous classes of ``torch.distributions`` whose arguments are numbers, and the
classes of this module in :data:`OWN`.
"""

import inspect
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.constraints import is_dependent
from torch.distributions.utils import broadcast_all

from aae.errors import ParameterError, unknown

Shape = torch.Size | list[int] | tuple[int, ...]
# Largest number of points of a spiral from which its density is summed.
MOST_POINTS = 2**12


def centres(count: int) -> Tensor:
    """Return the centres [count] of equal parts of the interval from 0 to 1."""
    return (torch.arange(count) + 0.5) / count


class GaussianRing(Distribution):
    """A mixture of Gaussians on a ring in the plane, each elongated along its radius.

    All components are equally probable. Figure 2 of Makhzani et al. 2015,
    https://arxiv.org/abs/1511.05644, has ten of them.

    Args:
        components: number of Gaussians.
        radius: distance of their means from the origin.
        radial_std: standard deviation along the radius.
        tangential_std: standard deviation across it.
    """

    arg_constraints = {  # noqa: RUF012 (as in torch.distributions)
        "components": constraints.integer_interval(1, 10_000),
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
        self.components, self.radius, self.radial_std, self.tangential_std = broadcast_all(
            components, radius, radial_std, tangential_std
        )
        super().__init__(self.radius.shape, torch.Size([2]), validate_args)

    @cached_property
    def _count(self) -> int:
        """Number of components, read only once, because reading it from a GPU means waiting."""
        return int(self.components)

    def _directions(self, component: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors [..., 2] along and across the radius of each component."""
        angle = 2 * math.pi * component / self._count
        along = torch.stack([angle.cos(), angle.sin()], dim=-1)
        return along, torch.stack([-angle.sin(), angle.cos()], dim=-1)

    @property
    def mean(self) -> Tensor:
        """Mean [2]."""
        along, _ = self._directions(torch.arange(self._count))
        return self.radius * along.mean(0)

    @property
    def variance(self) -> Tensor:
        """Variance [2] of each dimension: of the means, plus the mean variance around them."""
        along, across = self._directions(torch.arange(self._count))
        around = (self.radial_std * along) ** 2 + (self.tangential_std * across) ** 2
        return (self.radius * along).var(0, correction=0) + around.mean(0)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw codes [*sample_shape, 2]."""
        device = self.radius.device
        return self._around(torch.randint(self._count, sample_shape, device=device))

    def sample_at(self, position: Tensor) -> Tensor:
        """Draw codes [*position.shape, 2], at a position from 0 to 1 in the order of components."""
        return self._around((position * self._count).long().clamp(max=self._count - 1))

    def _around(self, component: Tensor) -> Tensor:
        """Draw codes [*component.shape, 2] of components."""
        along, across = self._directions(component)
        first, second = torch.randn(2, *component.shape, 1, device=component.device)
        return (
            self.radius + self.radial_std * first
        ) * along + self.tangential_std * second * across

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the logarithm of the density [...] at codes [..., 2]."""
        along, across = self._directions(torch.arange(self._count, device=value.device))
        along, across = along.to(value.dtype), across.to(value.dtype)
        radial = (value @ along.T - self.radius) / self.radial_std
        tangential = value @ across.T / self.tangential_std
        constant = (2 * math.pi * self.radial_std * self.tangential_std * self._count).log()
        return (-(radial**2 + tangential**2) / 2).logsumexp(-1) - constant

    def to_chart(self, codes: Tensor) -> Tensor:
        """Return angle and radius [n, 2] of codes [n, 2].

        The angle begins half-way between the last component and the first, in a gap.
        """
        first_gap = -math.pi / self._count
        angle = torch.atan2(codes[:, 1], codes[:, 0])
        angle = (angle - first_gap).remainder(2 * math.pi) + first_gap
        return torch.stack([angle, codes.norm(dim=1)], dim=1)

    def from_chart(self, coordinates: Tensor) -> Tensor:
        """Return the codes [n, 2] at an angle and a radius [n, 2]."""
        angle, radius = coordinates[:, 0], coordinates[:, 1].clamp(min=0)
        return radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)


class SwissRoll(Distribution):
    """A spiral r ∝ φ in the plane that starts at the origin, with Gaussian noise around it.

    It is the prior of figure 4 of Makhzani et al. 2015, https://arxiv.org/abs/1511.05644. Except
    near the origin, its density is constant along the spiral.

    Args:
        turns: number of turns.
        radius: distance between its end and the origin.
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
        self.turns, self.radius, self.noise = broadcast_all(turns, radius, noise)
        super().__init__(self.radius.shape, torch.Size([2]), validate_args)

    def _roll(self, share: Tensor) -> Tensor:
        """Return the points [..., 2] at a ``share`` of the spiral's length from the origin."""
        radius = share.sqrt()  # the length of a spiral grows with the square of its radius
        angle = 2 * math.pi * self.turns * radius
        return self.radius * radius[..., None] * torch.stack([angle.cos(), angle.sin()], dim=-1)

    @property
    def mean(self) -> Tensor:
        """Mean [2], by the midpoint rule."""
        return self._roll(centres(2**16)).mean(0)

    @property
    def variance(self) -> Tensor:
        """Variance [2] of each dimension, by the midpoint rule."""
        return self._roll(centres(2**16)).var(0, correction=0) + self.noise**2

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw codes [*sample_shape, 2]."""
        return self.sample_at(torch.rand(sample_shape, device=self.radius.device))

    def sample_at(self, position: Tensor) -> Tensor:
        """Draw codes [*position.shape, 2], at a position from 0 to 1 along the spiral."""
        noise = torch.randn(*position.shape, 2, device=position.device)
        return self._roll(position) + self.noise * noise

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the logarithm of the density [...] at codes [..., 2], by the midpoint rule.

        Raises:
            NotImplementedError: if there is no noise, because a line has no density in the plane.
        """
        if self.noise == 0:
            raise NotImplementedError
        # No spiral is longer, and a third of the noise is a small distance between two points.
        length = self.radius * (1 + 2 * math.pi * self.turns)
        count = min(math.ceil(3 * length / self.noise), MOST_POINTS)
        points = self._roll(centres(count)).to(value.dtype)
        exponents = -((torch.cdist(value, points) / self.noise) ** 2) / 2
        constant = (2 * math.pi * self.noise**2 * len(points)).log()
        return exponents.logsumexp(-1) - constant

    def to_chart(self, codes: Tensor) -> Tensor:
        """Return, for codes [n, 2], the angle along the spiral and the radial distance from it.

        The angle goes on growing after a full turn. The distance is the one from the nearest turn.
        """
        turn = 2 * math.pi
        slope = self.radius / (turn * self.turns)
        angle, radius = torch.atan2(codes[:, 1], codes[:, 0]).remainder(turn), codes.norm(dim=1)
        turns = ((radius / slope - angle) / turn).round().clamp(min=0)
        along = angle + turn * turns
        return torch.stack([along, radius - slope * along], dim=1)

    def from_chart(self, coordinates: Tensor) -> Tensor:
        """Return the codes [n, 2] at an angle along the spiral and a distance from it [n, 2]."""
        along, distance = coordinates.T
        slope = self.radius / (2 * math.pi * self.turns)
        radius = (slope * along + distance).clamp(min=0)
        return radius[:, None] * torch.stack([along.cos(), along.sin()], dim=1)


class Stretch(Distribution):
    """A stretch of a distribution that has an order of positions from 0 to 1.

    Args:
        whole: a :class:`GaussianRing` or a :class:`SwissRoll`.
        first: position where the stretch begins.
        last: position where it ends.
    """

    support = constraints.real_vector

    def __init__(self, whole: GaussianRing | SwissRoll, first: float, last: float) -> None:
        self.whole, self.first, self.last = whole, first, last
        super().__init__(whole.batch_shape, whole.event_shape, validate_args=False)

    @cached_property
    def _large(self) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.sample((2**16,))

    @property
    def mean(self) -> Tensor:
        """Mean [2] of a large sample."""
        return self._large.mean(0)

    @property
    def variance(self) -> Tensor:
        """Variance [2] of a large sample."""
        return self._large.var(0)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw codes [*sample_shape, 2]."""
        share = torch.rand(sample_shape, device=self.whole.radius.device)
        return self.whole.sample_at(self.first + (self.last - self.first) * share)


# Distributions of matrices and of angles, which have no mean and variance along a line.
NOT_ON_A_LINE = (
    torch.distributions.LKJCholesky, torch.distributions.Wishart, torch.distributions.VonMises,
)  # fmt: skip
OWN = {cls.__name__: cls for cls in (GaussianRing, SwissRoll)}


def make_distribution(name: str, arguments: Mapping[str, Any]) -> Distribution:
    """Return the distribution of this name, after a check of its arguments.

    Args:
        name: a continuous class of ``torch.distributions``, or a class of this module.
        arguments: its arguments, which are numbers or lists of numbers.

    Raises:
        ParameterError: names the key in the entry of the prior, its value, and what would be
            right.

    Example:
        >>> make_distribution("Normal", {"loc": 0.0, "scale": 5.0})
        Normal(loc: 0.0, scale: 5.0)
    """
    distributions = _continuous_distributions() | OWN
    if name not in distributions:
        raise ParameterError(
            f"distribution: {unknown(name, distributions, 'a continuous distribution of numbers')}"
        )
    cls = distributions[name]
    signature = _arguments_of(cls)
    for key, value in arguments.items():
        if key not in signature:
            others = [other for other in signature if other not in arguments] or signature
            raise ParameterError(f"{key}: {unknown(key, others, f'an argument of {name}')}")
        _check_argument(cls, key, value)
    for key, parameter in signature.items():
        if parameter.default is parameter.empty and key not in arguments:
            raise ParameterError(f"{key}: missing; {name} needs {', '.join(signature)}")
    tensors = {key: torch.tensor(value, dtype=torch.float32) for key, value in arguments.items()}
    try:
        distribution = cls(**tensors, validate_args=True)  # type: ignore[arg-type]
    except Exception as error:  # each class raises another type of error for wrong arguments
        given = ", ".join(f"{key}={value}" for key, value in arguments.items())
        raise ParameterError(f"distribution: {name}({given}) does not exist: {error}") from error
    if distribution.batch_shape:
        raise ParameterError(
            f"distribution: {name} got lists of length {list(distribution.batch_shape)}; "
            f"give numbers: its components are independent and have the same distribution"
        )
    return distribution


def _continuous_distributions() -> dict[str, type[Distribution]]:
    """Return the continuous classes of torch.distributions whose arguments are numbers."""
    return {
        name: cls
        for name in torch.distributions.__all__
        if isinstance(cls := getattr(torch.distributions, name), type)
        and issubclass(cls, Distribution)
        and cls not in (Distribution, torch.distributions.ExponentialFamily)
        and not _needs_another_distribution(cls)
        and not _is_discrete(cls)
        and cls not in NOT_ON_A_LINE
    }


def _arguments_of(cls: type[Distribution]) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(cls).parameters)
    parameters.pop("validate_args", None)
    return parameters


def _needs_another_distribution(cls: type[Distribution]) -> bool:
    return any("distribution" in key for key in _arguments_of(cls))


def _is_discrete(cls: type[Distribution]) -> bool:
    support = cls.support
    # If the support depends on the arguments, this is a property and not a constraint.
    return getattr(support, "is_discrete", False)


def _check_argument(cls: type[Distribution], key: str, value: object) -> None:
    try:
        tensor = torch.tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        tensor = torch.tensor(torch.nan)
    if isinstance(value, bool) or not tensor.isfinite().all():
        raise ParameterError(f"{key}: {value!r} is not a finite number or a list of finite numbers")
    if key == "temperature" and not (tensor > 0).all():  # torch does not check it
        raise ParameterError(f"{key}: {value!r} is not greater than 0")
    constraints = cls.arg_constraints
    constraint = constraints.get(key) if isinstance(constraints, dict) else None
    if constraint is None or is_dependent(constraint):
        return  # the class itself checks it, together with the other arguments
    try:
        valid = constraint.check(tensor).all()
    except (RuntimeError, IndexError):  # a number instead of a vector or a matrix
        valid = False
    if not valid:
        raise ParameterError(f"{key}: {value!r} does not satisfy {constraint} of {cls.__name__}")
