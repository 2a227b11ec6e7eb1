from pathlib import Path

import pytest
from projects import run
from support import ROOT

from aae.workspace import in_copy, project_root


def test_queued_experiments_belong_to_the_repository_around_them(tmp_path, monkeypatch):
    queued = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1234"
    (queued / ".dvc").mkdir(parents=True)
    assert project_root(queued) == tmp_path
    assert project_root(tmp_path) == tmp_path
    nested = tmp_path / "nested"
    (nested / ".dvc").mkdir(parents=True)
    assert project_root(nested) == nested
    for folder, is_copy in ((queued, True), (tmp_path, False), (nested, False)):
        monkeypatch.chdir(folder)
        assert in_copy() == is_copy


@pytest.fixture
def queued(tmp_path: Path) -> Path:
    """The folder of a queued experiment."""
    folder = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1234"
    folder.mkdir(parents=True)
    return folder


def test_a_stage_gets_the_python_of_the_repository_around_it(tmp_path, queued):
    program = tmp_path / ".venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "the repository\'s, with $PYTHONPATH"\n')
    program.chmod(0o755)
    result = run([str(ROOT / "stages" / "run"), "python"], queued, PYTHONPATH=None)
    assert result.stdout == f"the repository's, with {queued}\n"
    program.unlink()  # without it, the active one runs
    result = run([str(ROOT / "stages" / "run"), "python", "-c", "print(1)"], queued)
    assert result.stdout == "1\n"
