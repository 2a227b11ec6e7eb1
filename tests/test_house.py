"""The rules of the house: which way imports run, and who may import what."""

import ast
import re
from pathlib import Path

import pytest
from support import ROOT
from ruamel.yaml import YAML

from aae.params import flatten, load_params
from aae.report.page import SHOWN

# The order of the README's list: a module imports only those before it.
ORDER = (ROOT / "README.md").read_text().split("aae/            the package")[1]
MODULES = [
    word.removesuffix(".py")
    for line in ORDER.split("\nbenchmarks/")[0].splitlines()[1:]
    for word in line.split()[:1]
]
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
PARAMS = load_params(ROOT / "params.yaml")
FILES = {path.stem: path for path in (ROOT / "aae").glob("*.py") if path.stem != "__init__"}


def imports(path: Path) -> set[str]:
    """Names of all modules, and of what is in them, that a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def own_imports(path: Path) -> set[str]:
    """Names of the modules of the package that a file imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("aae.")}


def test_every_module_is_in_the_readmes_list():
    assert sorted(MODULES) == sorted(name for name in FILES if not name.startswith("_"))


def test_imports_run_one_way():
    for name in MODULES:
        later = set(MODULES[MODULES.index(name) :])
        assert not own_imports(FILES[name]) & later, name


def test_one_module_each_knows_mlflow_matplotlib_ray_and_torchvision():
    users = {
        "mlflow": {"tracking"}, "matplotlib": {"figures"}, "ray": {"sweep"},
        "torchvision": {"_torchvision"},
    }  # fmt: skip
    for library, expected in users.items():
        found = {
            name
            for name in FILES
            if any(module.split(".")[0] == library for module in imports(FILES[name]))
        }
        assert found == expected


def test_a_stage_fits_on_a_screen_and_a_module_is_one_thing():
    for path in (ROOT / "stages").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 90, path
    for path in FILES.values():
        assert len(path.read_text().splitlines()) <= 300, path


# What cannot change a stage's outputs, or not those of that stage.
WITHOUT_EFFECT = {"errors", "experiments", "progress", "recording", "runs", "spool", "tracking"}
WITHOUT_EFFECT_ON = {
    "check_params": {"distributed"},
    "prepare_data": {"distributed", "distributions", "priors"},
    "train_ae": {"_torchvision", "distributions", "priors"},
    "train_aae": {"_torchvision", "figures"},  # figures for MLflow alone
    "eval_latent": {"_torchvision", "distributed"},
    "report": {"distributed", "distributions", "priors"},
}


def test_a_stage_depends_on_all_code_that_determines_its_outputs():
    for name, stage in STAGES.items():
        ignored = WITHOUT_EFFECT | WITHOUT_EFFECT_ON.get(name, set())
        needed: set[str] = set()
        waiting = own_imports(ROOT / "stages" / f"{name}.py") - ignored
        while waiting:
            module = waiting.pop()
            needed.add(module)
            waiting |= own_imports(FILES[module]) - needed - ignored
        declared = {
            path[4:-3] for path in stage["deps"] if path.startswith("aae/") and path.endswith(".py")
        }
        # The page names the digest of all code and depends on all of it.
        assert declared == needed or "aae" in stage["deps"], name


# What no output depends on.
WITHOUT_OUTPUT = {"snapshots", "tracking"}


def leaves(names: set[str]) -> set[str]:
    """Parameters by dotted name that are in sections of these names."""
    known = flatten(PARAMS.model_dump())
    return {leaf for leaf in known for name in names if f"{leaf}.".startswith(f"{name}.")}


@pytest.mark.parametrize("stage", ["prepare_data", "train_ae", "train_aae", "eval_latent"])
def test_a_stage_and_its_snapshots_depend_on_all_parameters_that_it_reads(stage):
    declared = set(STAGES[stage]["params"])
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    # In "params.network.hidden" stands "params.network", which is not read as a whole.
    parts = [node.value for node in nodes]
    read = {ast.unparse(node) for node in nodes if node not in parts}
    read = {name.removeprefix("params.") for name in read if name.startswith("params.")}
    read = {name for name in read if name.partition(".")[0] not in WITHOUT_OUTPUT}
    if "latent_prior" in read:
        read |= {"latent_dim", "prior"}
        assert "priors.${prior}" in declared
    assert leaves(declared) == leaves(read - {"priors"})
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and "DETERMINED_BY" in ast.unparse(node):
            named = ast.literal_eval(node.value)  # type: ignore[arg-type]
            # The run says which data it was, on whose content the stage depends. The snapshots are
            # named after the entry of the prior, too.
            found = set(flatten(PARAMS.model_dump(include=named)))
            assert found == leaves(declared | {"data"})
            return
    assert not stage.startswith("train"), "its snapshots are named after nothing"


def test_the_page_depends_on_all_parameters_that_it_shows():
    template = (ROOT / "aae" / "report.html.j2").read_text()
    shown = SHOWN | set(re.findall(r"\bparams\.(\w+)", template))
    assert shown <= set(STAGES["report"]["params"])
