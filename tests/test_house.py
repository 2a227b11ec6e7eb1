"""The rules of the house: which way imports run, and who may import what."""

import ast

from conftest import ROOT

# The order of the README's list: a module imports only those before it.
ORDER = (ROOT / "README.md").read_text().split("aae/            the package")[1]
MODULES = [
    word.removesuffix(".py")
    for line in ORDER.split("\nbenchmarks/")[0].splitlines()[1:]
    for word in line.split()[:1]
]
FILES = {path.stem: path for path in (ROOT / "aae").glob("*.py") if path.stem != "__init__"}


def imports(name: str) -> set[str]:
    """Names of all modules that a module of the package imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def test_every_module_is_in_the_readmes_list():
    assert sorted(MODULES) == sorted(name for name in FILES if not name.startswith("_"))


def test_imports_run_one_way():
    for name in MODULES:
        own = {module.split(".")[1] for module in imports(name) if module.startswith("aae.")}
        later = set(MODULES[MODULES.index(name) :])
        assert not own & later, name


def test_one_module_each_knows_mlflow_matplotlib_and_torchvision():
    users = {"mlflow": {"tracking"}, "matplotlib": {"figures"}, "torchvision": {"_torchvision"}}
    for library, expected in users.items():
        found = {
            name
            for name in FILES
            if any(module.split(".")[0] == library for module in imports(name))
        }
        assert found == expected


def test_a_stage_fits_on_a_screen_and_a_module_is_one_thing():
    for path in (ROOT / "stages").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 90, path
    for path in FILES.values():
        assert len(path.read_text().splitlines()) <= 300, path
