"""The rules of the project: which modules may import which, and what dvc.yaml must declare."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from ruamel.yaml import YAML
from support import ROOT

from aae.params import flatten, load_params
from aae.report.page import PARAMETERS
from aae.training import build

STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
PARAMS = load_params(ROOT / "params.yaml")


def test_every_part_imports_only_parts_below_it():
    """The contracts in pyproject.toml: the layers, and the one module of each large library."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


def test_every_part_says_what_lives_in_it():
    for path in (ROOT / "aae").rglob("*.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert docstring, path


# Code that cannot change the outputs of any stage, or of one stage, because it only prints, tracks
# or checks parameters.
WITHOUT_EFFECT = {"aae", "aae.errors", "aae.progress", "aae.workspace"}
TRACKING = ("aae.tracking",)
WITHOUT_EFFECT_ON = {
    "prepare_data": ("aae.pipeline", "aae.priors", "aae.training", "aae.models", *TRACKING),
    "train_ae": ("aae.evaluation", *TRACKING),
    "train_aae": ("aae.report", "aae.evaluation", *TRACKING),  # its figures are only for MLflow
    "eval_latent": ("aae.training", "aae.pipeline.parameters", *TRACKING),
}


def modules(path: Path) -> set[str]:
    """Return the modules of the package that a script imports."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if type(node) is ast.ImportFrom]
    return {node.module for node in nodes if node.module and node.module.startswith("aae")}


def is_below(path: str, declared: list[str]) -> bool:
    """Return whether a file, or a folder that contains it, is declared."""
    return any(path == name or path.startswith(f"{name}/") for name in declared)


@pytest.mark.parametrize("stage", WITHOUT_EFFECT_ON)
def test_a_stage_depends_on_all_code_that_determines_its_outputs(stage):
    graph = grimp.build_graph("aae")
    waiting = modules(ROOT / "stages" / f"{stage}.py")
    needed: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in WITHOUT_EFFECT or module.startswith(WITHOUT_EFFECT_ON[stage]):
            continue
        needed.add(module)
        waiting |= graph.find_modules_directly_imported_by(module) - needed
    assert needed
    for module in needed:
        path = module.replace(".", "/")
        file = f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"
        assert is_below(file, STAGES[stage]["deps"]), module


def test_a_change_of_the_page_trains_nothing_again():
    for stage in ("train_ae", "train_aae"):
        for name in ("aae/report/page.py", "aae/report/figures.py", "aae/tracking/run.py"):
            assert not is_below(name, STAGES[stage]["deps"])


# Sections on which no output depends, of any stage or of one that only checks them.
WITHOUT_OUTPUT = {"snapshots", "tracking"}
CHECKED = {"prepare_data": {"labels"}, "train_ae": {"labels"}}
# Parameters on which the outputs of a stage do not depend, in a section that it reads as a whole:
# tests/training/test_phases.py shows it.
UNUSED = {"train_ae": {"augment.regularisation"}}


def leaves(names: set[str]) -> set[str]:
    """Return the dotted names of the parameters in sections of these names."""
    known = flatten(PARAMS.model_dump())
    return {leaf for leaf in known for name in names if f"{leaf}.".startswith(f"{name}.")}


def training_of(stage: str) -> str:
    """Return the source of the function that builds the training of a stage, if it has one."""
    builders = {"train_ae": build.autoencoder_training, "train_aae": build.adversarial_training}
    return inspect.getsource(builders[stage]) if stage in builders else ""


@pytest.mark.parametrize("stage", WITHOUT_EFFECT_ON)
def test_a_stage_depends_on_all_parameters_that_it_reads(stage):
    declared = set(STAGES[stage]["params"])
    text = (ROOT / "stages" / f"{stage}.py").read_text() + training_of(stage)
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)]
    # "params.network.hidden" contains "params.network", which does not count as read.
    parts = [node.value for node in nodes]
    read = {ast.unparse(node) for node in nodes if node not in parts}
    read = {name.removeprefix("params.") for name in read if name.startswith("params.")}
    without_output = WITHOUT_OUTPUT | CHECKED.get(stage, set())
    read = {name for name in read if name.partition(".")[0] not in without_output}
    if "chosen_prior" in text:
        read |= {"latent_dim", "prior"}
        assert "priors.${prior}" in declared
    assert leaves(declared) == leaves(read - {"priors"}) - UNUSED.get(stage, set())


def test_the_page_depends_on_all_parameters_that_it_shows():
    template = (ROOT / "aae" / "report" / "page.html.j2").read_text()
    shown = PARAMETERS | set(re.findall(r"\bparams\.(\w+)", template))
    assert shown <= set(STAGES["report"]["params"])


def test_outputs_stay_until_a_stage_replaces_them():
    for stage in STAGES.values():
        for out in [*stage["outs"], *stage.get("metrics", [])]:
            (settings,) = out.values()
            assert settings["persist"], out
