"""The latent priors p(z), as torch.distributions.

A prior is named in params.yaml by a class of ``torch.distributions`` and its arguments. A
univariate class is extended to ``latent_dim`` dimensions by independent components; a
multivariate one (``MultivariateNormal``) must have as many dimensions as the codes.
"""

import inspect
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import is_dependent

from aae.errors import ParameterError, unknown
from aae.seeding import stream

# Size of the sample that stands in where a distribution has no closed form for something.
REFERENCE_SIZE = 2**16


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
                f"dimensions, latent_dim is {latent_dim}"
            )
        self.distribution = distribution
        self.latent_dim = latent_dim
        # Codes are kept in single precision, which tells 10^7 values apart.
        fits = self.scale.isfinite() & (self.scale > 1e-5 * self.mean.abs())
        if not fits.all():
            raise ParameterError(
                f"distribution: {distribution} has mean {self.mean.tolist()} and standard "
                f"deviation {self.scale.tolist()}, too far apart for codes in single precision"
            )

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw codes [count, d], determined by the generator alone.

        ``torch.distributions`` reads torch's global generator and takes no other. It is therefore
        seeded from ``generator`` for the time of the call and put back afterwards.
        """
        seed = torch.randint(2**62, (), generator=generator).item()
        shape = (count, self.latent_dim) if self.univariate else (count,)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))
            return self.distribution.sample(shape)

    @cached_property
    def _reference(self) -> Tensor:
        """A large sample [REFERENCE_SIZE, d], the same at every call."""
        return self.sample(REFERENCE_SIZE, stream(0, "reference sample of the prior"))

    @cached_property
    def _location_and_scale(self) -> tuple[Tensor, Tensor]:
        try:
            mean, scale = self.distribution.mean, self.distribution.stddev
        except NotImplementedError:
            mean = scale = torch.tensor(torch.nan)
        if not (mean.isfinite().all() and scale.isfinite().all() and (scale > 0).all()):
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

    def ranks(self, codes: Tensor) -> Tensor:
        """Share of a large sample of the prior that is below each value of codes [n, d]."""
        ordered = self._reference.sort(0).values.T.contiguous()
        return (torch.searchsorted(ordered, codes.T.contiguous()) / REFERENCE_SIZE).T


def make_distribution(name: str, arguments: Mapping[str, Any]) -> Distribution:
    """Return the distribution of this name, with its arguments checked.

    Args:
        name: a continuous class of ``torch.distributions``.
        arguments: its arguments, numbers or lists of numbers.

    Raises:
        ParameterError: naming the key below the prior, the value, and what would be right.

    Example:
        >>> make_distribution("Normal", {"loc": 0.0, "scale": 5.0})
        Normal(loc: 0.0, scale: 5.0)
    """
    distributions = _continuous_distributions()
    if name not in distributions:
        raise ParameterError(
            f"distribution: {unknown(name, distributions, 'a continuous torch.distribution')}"
        )
    cls = distributions[name]
    signature = _arguments_of(cls)
    for key, value in arguments.items():
        if key not in signature:
            raise ParameterError(f"{key}: {unknown(key, signature, f'an argument of {name}')}")
        _check_argument(cls, key, value)
    for key, parameter in signature.items():
        if parameter.default is parameter.empty and key not in arguments:
            raise ParameterError(f"{key}: missing, {name} needs {', '.join(signature)}")
    tensors = {key: torch.tensor(value, dtype=torch.float32) for key, value in arguments.items()}
    try:
        distribution = cls(**tensors, validate_args=True)  # type: ignore[arg-type]
    except Exception as error:  # every class has its own way to refuse its arguments
        given = ", ".join(f"{key}={value}" for key, value in arguments.items())
        reason = " ".join(str(error).split())
        raise ParameterError(f"distribution: {name}({given}) does not exist: {reason}") from error
    if distribution.batch_shape:
        raise ParameterError(
            f"distribution: {name} got lists of length {list(distribution.batch_shape)}, "
            f"give numbers: its components are independent and alike"
        )
    return distribution


def _continuous_distributions() -> dict[str, type[Distribution]]:
    """Continuous classes of torch.distributions that are described by numbers alone."""
    return {
        name: cls
        for name in torch.distributions.__all__
        if isinstance(cls := getattr(torch.distributions, name), type)
        and issubclass(cls, Distribution)
        and cls not in (Distribution, torch.distributions.ExponentialFamily)
        and not _needs_another_distribution(cls)
        and not _is_discrete(cls)
        and not _is_of_matrices(cls)
    }


def _arguments_of(cls: type[Distribution]) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(cls).parameters)
    parameters.pop("validate_args", None)
    return parameters


def _needs_another_distribution(cls: type[Distribution]) -> bool:
    return any("distribution" in key for key in _arguments_of(cls))


def _is_discrete(cls: type[Distribution]) -> bool:
    support = cls.support
    # A class whose support depends on its arguments has a property in its place.
    return getattr(support, "is_discrete", False)


def _is_of_matrices(cls: type[Distribution]) -> bool:
    return cls in (torch.distributions.LKJCholesky, torch.distributions.Wishart)


def _check_argument(cls: type[Distribution], key: str, value: object) -> None:
    try:
        tensor = torch.tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        tensor = torch.tensor(torch.nan)
    if isinstance(value, bool) or not tensor.isfinite().all():
        raise ParameterError(f"{key}: {value!r} is not a finite number or a list of such")
    constraints = cls.arg_constraints
    constraint = constraints.get(key) if isinstance(constraints, dict) else None
    if constraint is None or is_dependent(constraint):
        return  # the class itself checks it, with the other arguments at hand
    try:
        valid = constraint.check(tensor).all()
    except (RuntimeError, IndexError):  # a number where a vector or a matrix is due
        valid = False
    if not valid:
        raise ParameterError(f"{key}: {value!r} does not satisfy {constraint} of {cls.__name__}")
