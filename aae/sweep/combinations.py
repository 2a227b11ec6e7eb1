"""The trials of a sweep: all combinations of parameters, all checked before any of them runs."""

import re
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from ruamel.yaml import YAML

from aae.data.published import PUBLISHED
from aae.errors import ParameterError, SweepError
from aae.params import PARAMS, Params, parse_params
from aae.pipeline.parameters import check_params, read_params
from aae.workspace import git


def combine(overrides: Sequence[str]) -> list[list[str]]:
    """Return all combinations of values, after checking each of them.

    Args:
        overrides: parameters and their values, in the syntax of `dvc exp run --queue -S`.

    Raises:
        ParameterError: if a combination is wrong; names the first one and the reason.
    """
    read_params(PARAMS)  # an error in the file itself must not look like one of a combination
    choices = [
        [f"{_prefix(o)}{o.key_or_group}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [o.input_line]
        for o in _parse(overrides)
    ]
    combinations = [list(changes) for changes in dict.fromkeys(product(*choices))]
    if not combinations:
        raise ParameterError(f"{' '.join(overrides)}: there are no values")
    for changes in combinations:
        try:
            data = changed_params(PARAMS, changes).data
        except ParameterError as error:
            raise ParameterError(f"{' '.join(changes)}: {error}") from error
        if data.source == "mnist-5k":
            continue
        key = "data.root" if data.source in PUBLISHED else "data.source"
        where = data.root if data.source in PUBLISHED else data.source
        if not Path(where).expanduser().is_absolute():
            raise ParameterError(
                f"{' '.join(changes)}: {key}: {where!r} is below this folder, but the sweep does "
                f"not send images; add {key}={Path(where).absolute()}, or where all machines have "
                "the images"
            )
    return combinations


def changed_params(path: Path, changes: Sequence[str]) -> Params:
    """Return the parameters of a file after changes in the syntax of `dvc exp run -S`.

    Raises:
        ParameterError: if a value or a name is wrong.
    """
    config = OmegaConf.create(YAML(typ="safe").load(path.read_text(encoding="utf-8")))
    missing, absent = [], object()
    for override in _parse(changes):
        key = override.key_or_group
        try:
            # The value of a parameter that is there may be empty.
            if OmegaConf.select(config, key, default=absent) is absent and not _prefix(override):
                missing.append(key)
            if override.is_delete():
                section, _, name = key.rpartition(".")
                OmegaConf.select(config, section or ".").pop(name)
            else:
                OmegaConf.update(config, key, override.value(), merge=False, force_add=True)
        except (OmegaConfBaseException, LookupError, TypeError, AttributeError) as error:
            raise ParameterError(f"{override.input_line}: {error}") from error
    # First, since its error suggests the right name instead of a wrong one.
    params = parse_params(OmegaConf.to_container(config))  # type: ignore[arg-type]
    if missing:
        raise ParameterError(f"{missing[0]}: not in {path}; to add it, write +{missing[0]}=…")
    check_params(params)
    return params


def _parse(overrides: Iterable[str]) -> list[Override]:
    found = []
    for text in overrides:
        file, colon, rest = text.partition(":")
        named = bool(colon) and "=" not in file  # DVC allows a file before the name
        if named and file != str(PARAMS):
            raise ParameterError(f"{text}: only parameters of {PARAMS} can be set")
        try:
            found.append(OverridesParser.create().parse_override(rest if named else text))
        except HydraException as error:
            raise ParameterError(f"{text}: {error}") from error
    return found


def _prefix(override: Override) -> str:
    """Return the prefix of an override: "+" or "++" for a value that may be new, "~" to delete."""
    return re.match(r"[+~]*", override.input_line or "")[0]  # type: ignore[index]


def experiment_names(prefix: str, combinations: Sequence[Sequence[str]]) -> list[str]:
    """Return the names of the experiments: the prefix and a number, as DVC's queue names them.

    Raises:
        SweepError: if the prefix is not valid in a name, or such experiments exist.
    """
    if not re.fullmatch(r"\w+([.-]\w+)*", prefix):
        raise SweepError(f"--name: {prefix!r} may have only letters, digits and single - . _")
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
