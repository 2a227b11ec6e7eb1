"""The priors p(z): distributions by name, and the properties that the project uses."""

from aae.errors import ParameterError
from aae.params import Params
from aae.priors.distributions import make_distribution
from aae.priors.prior import Prior

__all__ = ["Prior", "check_priors", "chosen_prior", "make_distribution"]


def chosen_prior(params: Params) -> Prior:
    """Return the prior that the parameters choose, over codes of ``latent_dim`` dimensions.

    Raises:
        ParameterError: if there is no such distribution, or it has another number of dimensions.
    """
    entry = params.priors[params.prior]
    try:
        distribution = make_distribution(entry.distribution, entry.arguments)
        return Prior(distribution, params.latent_dim)
    except ParameterError as error:
        raise ParameterError(f"priors.{params.prior}.{error}") from error


def check_priors(params: Params) -> None:
    """Check every entry of ``priors``, and that the chosen one has the dimensions of the codes.

    Raises:
        ParameterError: names the key, its value, and what would be right.
    """
    for name, entry in params.priors.items():
        try:
            make_distribution(entry.distribution, entry.arguments)
        except ParameterError as error:
            raise ParameterError(f"priors.{name}.{error}") from error
    chosen_prior(params)
