"""The Makefile and the lock, which set up a fresh clone."""

import itertools
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support import ROOT

# Stands for `python3` and simulates a Python 3.10.
OLD_PYTHON = f"""#!/bin/sh
exec {sys.executable} -c 'import sys; sys.version_info = (3, 10, 0); exec(sys.argv[1])' "$2"
"""


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # This must not look like a part of the `make test` that may be running this test.
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "--makefile", str(ROOT / "Makefile"), *arguments],
        cwd=folder, env=outer | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def requirements(*without: str) -> list[str]:
    """Return the requirements of the project and of its extras, except some extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {k: v for k, v in project["optional-dependencies"].items() if k not in without}
    texts = [*project["dependencies"], *itertools.chain(*extras.values())]
    # `dev` refers to other extras by the project's name.
    return [text for text in texts if Requirement(text).name != project["name"]]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder in which the set-up could run."""
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def test_make_alone_prints_every_target_with_one_line(clone):
    lines = make(clone).stdout.splitlines()
    named = [line.split()[1] for line in lines]
    assert {"repro", "test", "ui", "bench", "lint"} <= set(named)
    phony = (ROOT / "Makefile").read_text().split(".PHONY:")[1].splitlines()[0].split()
    assert sorted(named) == sorted(phony)


def test_a_python_that_is_too_old_is_passed_over_or_named_in_an_error(clone):
    old = clone / "bin"
    old.mkdir()
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        (old / name).write_text(OLD_PYTHON)
        (old / name).chmod(0o755)
    result = make(clone, "setup", PATH=f"{old}:{os.environ['PATH']}")
    assert result.returncode != 0
    assert "error: Python 3.11 or newer is needed" in result.stderr
    assert not (clone / ".venv").exists()


def test_a_second_call_does_no_set_up_work(clone):
    (clone / ".venv").mkdir()
    assert make(clone, "--question", "setup").returncode == 1
    (clone / ".venv" / "installed").touch()
    assert make(clone, "--question", "setup").returncode == 0
    later = (clone / ".venv" / "installed").stat().st_mtime + 10
    os.utime(clone / "requirements.lock", (later, later))
    assert make(clone, "--question", "setup").returncode == 1


def test_the_lock_pins_every_requirement_to_a_version_that_it_admits():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {}
    for requirement in locked:
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        assert "+" not in specifier.version, "a local build would be missing elsewhere"
        versions[canonicalize_name(requirement.name)] = specifier.version
    for text in requirements("benchmark"):
        wanted = Requirement(text)
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), text


def test_every_requirement_has_its_reason_in_a_comment():
    """The comment is on its line or above it."""
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    for text in requirements():
        (number,) = (n for n, line in enumerate(lines) if f'"{text}"' in line)
        assert "#" in lines[number] or lines[number - 1].lstrip().startswith("#"), text
