"""The project's errors: each has a message of one line that tells a user what to do."""

import difflib
import re
from collections.abc import Iterable


class AAEError(Exception):
    """An error that the user can fix; the message says what is wrong and how, in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class ParameterError(AAEError):
    """A value in params.yaml that no stage can work with."""


class DataError(AAEError):
    """Images or labels that are missing, damaged or inconsistent."""


class ModelError(AAEError):
    """A model file that is missing, damaged or does not fit."""


class SnapshotError(AAEError):
    """A snapshot that is damaged or does not fit the training."""


class TrainingError(AAEError):
    """A training that cannot continue."""


class OutputError(AAEError):
    """A file that cannot be written, because the disk is full or a folder is read-only."""


class TrackingError(AAEError):
    """A record that MLflow rejects, or a store that cannot be used."""


class StoreAwayError(TrackingError):
    """A store that is unreachable at the moment."""


class ComparisonError(AAEError):
    """Metrics that cannot be compared with those of another revision."""


class SweepError(AAEError):
    """Experiments that cannot be run on a cluster."""


def unknown(value: object, known: Iterable[str], kind: str) -> str:
    """Return a message that ``value`` is not one of the ``known`` values, with the nearest of them.

    Args:
        value: the wrong value.
        known: the right values.
        kind: what ``value`` is not, such as "in priors" or "a choice".

    Example:
        >>> unknown("gama", ["gaussian", "gamma"], "in priors")
        "'gama' is not in priors; did you mean 'gamma'? (choices: gaussian, gamma)"
    """
    choices = list(known)
    nearest = difflib.get_close_matches(str(value), choices, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"{value!r} is not {kind}{hint} (choices: {', '.join(choices)})"


def without_password(text: str) -> str:
    """Return a text without the user names and passwords of the addresses in it.

    Example:
        >>> without_password("no answer from postgresql://me:p@ss/w@host/db?password=secret")
        'no answer from postgresql://host/db?password=…'
    """
    return re.sub(r"(password=)[^&\s]*", r"\1…", re.sub(r"//\S*@", "//", text))
