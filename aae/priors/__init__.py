"""The priors p(z): distributions by name, and the properties that the project uses."""

from aae.errors import ParameterError
from aae.params import Params, PriorEntry
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
        try:
            return Prior(distribution, params.latent_dim)
        except ParameterError as error:
            raise ParameterError(f"{error}{_alternative(entry, params.latent_dim)}") from error
    except ParameterError as error:
        raise ParameterError(f"priors.{params.prior}.{error}") from error


def _alternative(entry: PriorEntry, latent_dim: int) -> str:
    """Return a hint with the smallest change of all arguments, by powers of two, that would do."""
    if not all(isinstance(value, int | float) for value in entry.arguments.values()):
        return ""
    for power in range(1, 31):
        for factor in (2**power, 2**-power):
            try:
                scaled = {k: float(f"{factor * v:.2g}") for k, v in entry.arguments.items()}
                Prior(make_distribution(entry.distribution, scaled), latent_dim)
            except ParameterError:
                continue
            near = PriorEntry.model_validate({"distribution": entry.distribution, **scaled})
            return f"; {near} would do"
    return ""


def check_priors(params: Params) -> None:
    """Check every entry of ``priors``, and that the chosen one fits the codes and their classes.

    Raises:
        ParameterError: names the key, its value, and what would be right.
    """
    for name, entry in params.priors.items():
        try:
            make_distribution(entry.distribution, entry.arguments)
        except ParameterError as error:
            raise ParameterError(f"priors.{name}.{error}") from error
    if not chosen_prior(params).parts(1) and params.labels.use == "prior":
        raise ParameterError(
            "labels.use: 'prior' needs a prior with parts, a GaussianRing or a SwissRoll; "
            f"priors.{params.prior} is {params.priors[params.prior]}"
        )
