"""The trials of a sweep: all combinations of parameters, each one checked before anything runs."""

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps
from hydra.errors import HydraException

from aae.errors import ParameterError, SweepError
from aae.workspace import git
from aae.params import PARAMS, load_params


def combine(overrides: Sequence[str]) -> list[list[str]]:
    """Return all combinations of values, each one checked.

    Args:
        overrides: parameters and their values, in the syntax of `dvc exp run --queue -S`.

    Raises:
        ParameterError: names the first combination that is wrong, and why.
    """
    load_params(PARAMS)  # what is wrong before any change is not a change's fault
    try:
        by_file = get_hydra_sweeps(to_path_overrides(overrides))
    except (HydraException, DvcException) as error:
        raise ParameterError(f"{' '.join(overrides)}: {error}") from error
    combinations = []
    for files in by_file:
        if files.keys() != {str(PARAMS)}:
            raise ParameterError(f"{', '.join(files)}: only parameters of {PARAMS} can be set")
        changes = files[str(PARAMS)]
        if changes in combinations:
            continue
        try:
            _check(changes)
        except (ParameterError, DvcException) as error:
            reason = error.__cause__ if isinstance(error, DvcException) else error
            raise ParameterError(f"{' '.join(changes)}: {reason}") from error
        combinations.append(changes)
    if not combinations:
        raise ParameterError(f"{' '.join(overrides)}: there are no values")
    return combinations


def _check(changes: list[str]) -> None:
    """Refuse parameters that no trial can work with."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, PARAMS.name)
        shutil.copy(PARAMS, path)
        try:
            apply_overrides(path, changes)
        except DvcException:  # a name that is not there: with it, we can say what would be right
            apply_overrides(path, [x if x[0] in "+~" else f"++{x}" for x in changes])
            load_params(path)
            raise
        data = load_params(path).data
    if data.source != "mnist-5k" and not Path(data.root).expanduser().is_absolute():
        raise ParameterError(
            f"data.root: {data.root!r} is below this folder, and images are not sent along; add "
            f"data.root={Path(data.root).absolute()}, or where all machines have them"
        )


def experiment_names(prefix: str, combinations: Sequence[Sequence[str]]) -> list[str]:
    """Return the names of the experiments, numbered as those of DVC's queue.

    Raises:
        SweepError: if they are not names of experiments, or there are such experiments.
    """
    if not re.fullmatch(r"\w+([.-]\w+)*", prefix):
        raise SweepError(f"--name: {prefix!r} is more than letters, digits and single - . _")
    numbered = [f"{prefix}-{number}" for number in range(1, len(combinations) + 1)]
    known = (git("for-each-ref", "--format=%(refname)", "refs/exps") or "").splitlines()
    taken = {reference.rpartition("/")[2] for reference in known} & set(numbered)
    if taken:
        raise SweepError(
            f"--name: there is an experiment {min(taken)}; choose another name, or remove it with "
            f"`dvc exp remove {min(taken)}`"
        )
    return numbered


def by_name(changes: Sequence[str]) -> dict[str, str]:
    """Return the values of a trial's parameters by name."""
    pairs = (change.lstrip("+~").partition("=") for change in changes)
    return {key: value for key, _, value in pairs}
