"""Runs the README's commands, in order, in a fresh copy of the project with small networks."""

import re
import sys
from pathlib import Path

import pytest
from projects import (
    SMALL,
    commit,
    copy_project,
    copy_results,
    end,
    start,
    start_queue,
    wait_for_queue,
)
from servers import wait_for_line
from support import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"(?m)^```(sh|console)\n(.*?)^```", README, re.DOTALL)
# A copy must not run the tests, which would include this one.
LEFT_OUT = {"make test"}


def commands() -> list[tuple[str, list[str]]]:
    """Return each command with its promised output; a line "..." stands for any lines."""
    found: list[tuple[str, list[str]]] = []
    for kind, block in BLOCKS:
        for line in block.splitlines():
            if kind == "sh":
                found.append((line.partition(" #")[0].strip(), []))
            elif line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return [(command, printed) for command, printed in found if command not in LEFT_OUT]


def check_outline(output: str, promised: list[str]) -> None:
    """Check that the promised lines are printed in this order, among others."""
    lines = iter(output.splitlines())
    for line in promised:
        if line != "...":
            assert line in lines, f"{line!r} is not printed, or not in its place, in:\n{output}"


def test_it_is_short_and_its_links_lead_somewhere():
    assert len(README.splitlines()) <= 150
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.slow
def test_every_command_does_what_it_promises(tmp_path):
    gate = {"regression.overrides": SMALL, "regression.metrics": {"aae.mmd2": {"absolute": 9.0}}}
    project = copy_project(tmp_path / "project", SMALL | gate)
    copy_results(project)
    (project / "reports" / "metrics" / "regression.json").write_text('{"aae.mmd2": 0.0}')
    commit(project, "a baseline")
    programs = Path(sys.prefix) / "bin"
    (project / ".venv").mkdir()
    (project / ".venv" / "installed").touch()  # so that make sets nothing up
    for name in ("bin", "lib", "pyvenv.cfg"):
        (project / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    for command, promised in commands():
        environment = {"PATH": f"{programs}:/usr/bin:/bin", "OMP_NUM_THREADS": None}
        if command.startswith("dvc queue start"):
            start_queue(project, *command.split()[3:], **environment)
            assert wait_for_queue(project).count("Success") == 4
            continue
        process = start(["bash", "-c", command], project, **environment)
        if command == "make ui":
            wait_for_line(process.stdout, "open http://127.0.0.1:")
            end(process)
            continue
        output, errors = process.communicate()
        assert process.returncode == 0, f"{command}:\n{output}{errors}"
        check_outline(output, promised)
