import os
import socket
from pathlib import Path

import pytest
from projects import run
from support import ROOT

from aae import workspace
from aae.workspace import in_copy, obstacle_to_a_copy, project_root


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


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """A git repository with one known file and one ignored folder."""
    tmp_path = tmp_path / "repository"
    tmp_path.mkdir()
    run(["git", "init", "--quiet"], tmp_path)
    (tmp_path / ".gitignore").write_text("/ignored\n")
    (tmp_path / "ignored").mkdir()
    run(["git", "add", "."], tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_small_tree_can_be_copied(tree):
    (tree / "new folder").mkdir()
    (tree / "new folder" / "module.py").write_text("")
    (tree / "link").symlink_to("new folder")
    with socket.socket(socket.AF_UNIX) as listener:  # git does not list it, so no copy has it
        listener.bind("socket")
        assert obstacle_to_a_copy() is None


def test_what_git_ignores_is_no_obstacle(tree):
    with (tree / "ignored" / "large").open("wb") as file:
        file.truncate(10 * workspace.LARGEST_COPY)
    assert obstacle_to_a_copy() is None


def test_files_that_are_too_large_are_an_obstacle(tree):
    with (tree / "images.npy").open("wb") as file:
        file.truncate(workspace.LARGEST_COPY + 1)
    assert "images.npy has 200 MB: add it to .gitignore" in obstacle_to_a_copy()
    run(["git", "add", "--intent-to-add", "images.npy"], tree)
    assert "images.npy has 200 MB: run `git rm --cached images.npy`" in obstacle_to_a_copy()


def test_too_many_files_are_an_obstacle(tree, monkeypatch):
    monkeypatch.setattr(workspace, "MOST_FILES", 20)
    for k in range(21):
        (tree / "frames").mkdir(exist_ok=True)
        (tree / "frames" / f"{k}.png").write_bytes(b"")
    assert "more than 20 files, most of them in frames: add it" in obstacle_to_a_copy()


def test_a_link_to_nowhere_that_git_does_not_know_is_an_obstacle(tree):
    (tree / "link").symlink_to("nowhere")
    assert obstacle_to_a_copy().startswith("link is a link to a file that does not exist: add it")
    run(["git", "add", "link"], tree)
    assert obstacle_to_a_copy() is None


def test_what_dvc_would_copy_from_a_folder_that_git_does_not_know_counts(tree):
    """DVC copies such a folder as a whole, with what git ignores in it, and follows its links."""
    (tree / ".gitignore").write_text("*.npy\n")
    (tree / "new").mkdir()
    (tree / "new" / "module.py").write_text("")
    with (tree / "new" / "images.npy").open("wb") as file:
        file.truncate(3 * 2**30)  # a hole, which takes no space
    reason = obstacle_to_a_copy()
    assert "new/images.npy has 3072 MB: run `git add --intent-to-add new`" in reason
    run(["git", "add", "--intent-to-add", "new"], tree)
    assert obstacle_to_a_copy() is None


def test_another_repository_within_counts(tree):
    (tree / "theirs").mkdir()
    run(["git", "init", "--quiet"], tree / "theirs")
    with (tree / "theirs" / "images").open("wb") as file:
        file.truncate(3 * 2**30)
    assert "theirs/images has 3072 MB: add it to .gitignore" in obstacle_to_a_copy()


def test_a_link_to_a_large_file_or_folder_counts(tree):
    with (tree / "ignored" / "large").open("wb") as file:
        file.truncate(3 * 2**30)
    for target in ("ignored", "ignored/large"):
        (tree / "link").symlink_to(target)
        assert "3072 MB: add it to .gitignore" in obstacle_to_a_copy()
        (tree / "link").unlink()


@pytest.mark.parametrize("target", [".", "..", "../../../repository"])
def test_a_link_to_a_folder_around_it_is_an_obstacle(tree, target):
    (tree / "new" / "deeper").mkdir(parents=True)
    (tree / "new" / "deeper" / "link").symlink_to(target)
    reason = obstacle_to_a_copy()
    assert reason.startswith("new/deeper/link")
    assert "is a link to a folder that it is in: add it to .gitignore" in reason


def test_a_link_to_itself_is_an_obstacle(tree):
    (tree / "link").symlink_to("link")
    assert obstacle_to_a_copy().startswith("link is a link to a file that does not exist")


def test_a_pipe_in_a_folder_that_git_does_not_know_is_an_obstacle(tree):
    (tree / "new").mkdir()
    (tree / "new" / "module.py").write_text("")
    os.mkfifo(tree / "new" / "pipe")
    assert obstacle_to_a_copy().startswith("new/pipe is neither a file nor a folder: add it to")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_cannot_be_read_is_an_obstacle(tree):
    (tree / "secret").write_text("")
    (tree / "secret").chmod(0)
    assert obstacle_to_a_copy().startswith("secret cannot be read: change its permissions")
    (tree / "secret").unlink()
    (tree / "locked").mkdir()
    (tree / "locked").chmod(0)
    assert obstacle_to_a_copy().startswith("locked cannot be read: change its permissions")
    (tree / "locked").chmod(0o700)


def test_names_that_are_no_text_and_folders_that_became_files_are_no_obstacle(tree):
    (tree / os.fsdecode(b"caf\xe9.txt")).write_text("")
    (tree / " blank first").write_text("")
    (tree / "folder").mkdir()
    (tree / "folder" / "file").write_text("")
    run(["git", "add", "folder"], tree)
    (tree / "folder" / "file").unlink()
    (tree / "folder").rmdir()
    (tree / "folder").write_text("")
    assert obstacle_to_a_copy() is None


def test_a_file_that_was_deleted_from_the_tree_is_no_obstacle(tree):
    (tree / ".gitignore").unlink()
    assert obstacle_to_a_copy() is None
