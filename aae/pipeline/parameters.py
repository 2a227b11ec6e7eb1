"""The checked parameters, and those that dvc.yaml declares for a stage."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from aae.models.kinds import check_kind
from aae.params import Params, load_params
from aae.priors import check_priors

PIPELINE = Path("dvc.yaml")


def read_params(path: Path) -> Params:
    """Read params.yaml and check every value in it.

    Raises:
        ParameterError: names, in one line, each wrong key, its value and what would be right.
    """
    params = load_params(path)
    check_params(params)
    return params


def check_params(params: Params) -> None:
    """Check what the types of the values do not say: the priors, and a user's own networks.

    Raises:
        ParameterError: names the wrong key, its value and what would be right.
    """
    check_priors(params)
    check_kind(params)


def dependencies(stage: str) -> list[Path]:
    """Return the files and folders that dvc.yaml declares as a stage's dependencies."""
    return [Path(path) for path in _declared(stage)["deps"]]


def stage_parameters(stage: str, params: Params) -> dict[str, Any]:
    """Return the parameters that dvc.yaml declares for a stage, nested as in params.yaml."""
    values = params.model_dump(mode="json")
    found: dict[str, Any] = {}
    for name in _declared(stage)["params"]:
        *sections, key = name.replace("${prior}", params.prior).split(".")
        value: Any = values
        target = found
        for section in sections:
            value, target = value[section], target.setdefault(section, {})
        target[key] = value[key]
    return found


def _declared(stage: str) -> dict[str, Any]:
    return YAML(typ="safe").load(PIPELINE)["stages"][stage]
