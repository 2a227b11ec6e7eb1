"""Distributions by name: what an entry of ``priors`` in params.yaml may say.

Every continuous class of ``torch.distributions`` that is described by numbers alone can be named,
and every class of :mod:`aae.priors`.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch.distributions import Distribution
from torch.distributions.constraints import is_dependent

from aae import priors
from aae.errors import ParameterError, unknown

OWN = {cls.__name__: cls for cls in (priors.GaussianRing, priors.SwissRoll)}


def make_distribution(name: str, arguments: Mapping[str, Any]) -> Distribution:
    """Return the distribution of this name, with its arguments checked.

    Args:
        name: a continuous class of ``torch.distributions``, or a class of ``aae.priors``.
        arguments: its arguments, numbers or lists of numbers.

    Raises:
        ParameterError: naming the key below the prior, the value, and what would be right.

    Example:
        >>> make_distribution("Normal", {"loc": 0.0, "scale": 5.0})
        Normal(loc: 0.0, scale: 5.0)
    """
    distributions = _continuous_distributions() | OWN
    if name not in distributions:
        raise ParameterError(
            f"distribution: {unknown(name, distributions, 'a continuous distribution')}"
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
        raise ParameterError(f"distribution: {name}({given}) does not exist: {error}") from error
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
