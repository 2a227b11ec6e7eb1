from pathlib import Path

import pandas as pd
import pytest

from aae.errors import OutputError
from aae.files import check_writable, replacing, tree_digest, write_csv, write_json, write_text


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path):
    path = tmp_path / "notes" / "file.txt"
    write_text(path, "first")
    with pytest.raises(RuntimeError), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_replaced_as_a_whole(tmp_path: Path):
    path = tmp_path / "file.txt"
    write_text(path, "first")
    with replacing(path) as temporary:
        temporary.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second"


def test_tables_and_values_keep_full_precision_and_line_endings(tmp_path: Path):
    write_csv(tmp_path / "table.csv", pd.DataFrame({"epoch": [1], "loss": [0.1 + 0.2]}))
    assert (tmp_path / "table.csv").read_bytes() == b"epoch,loss\n1,0.30000000000000004\n"
    write_json(tmp_path / "values.json", {"loss": 0.1 + 0.2})
    assert (tmp_path / "values.json").read_bytes() == b'{\n  "loss": 0.30000000000000004\n}\n'


def test_what_a_killed_process_has_left_is_cleared_away(tmp_path: Path):
    left = tmp_path / ".file.txt.partial"
    left.mkdir()
    (left / "file.txt").write_text("half")
    write_text(tmp_path / "file.txt", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_what_cannot_be_written_is_an_error_in_one_line(tmp_path: Path):
    (tmp_path / "models").write_text("a file where a folder is due")
    file = tmp_path / "models" / "ae.safetensors"
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in (file, folder):
        for write in (lambda p: write_text(p, "weights"), check_writable):
            with pytest.raises(OutputError) as error:
                write(path)
            assert str(error.value).startswith(str(path))
            assert " cannot be written: " in str(error.value)


def test_values_that_json_has_no_word_for_are_named(tmp_path: Path):
    with pytest.raises(OutputError, match=r"latent\.json cannot be written: a value is not finite"):
        write_json(tmp_path / "latent.json", {"match_ratio": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_check_leaves_nothing_and_keeps_what_is_there(tmp_path: Path):
    write_text(tmp_path / "file.txt", "first")
    check_writable(tmp_path / "file.txt", tmp_path / "new" / "other.txt")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file.txt"]
    assert (tmp_path / "file.txt").read_text() == "first"


def test_a_digest_is_that_of_names_and_contents(tmp_path: Path):
    (tmp_path / "a.py").write_text("one")
    first = tree_digest(tmp_path)
    assert tree_digest(tmp_path) == first
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    second = tree_digest(tmp_path)
    (tmp_path / "b.py").write_text("two")
    third = tree_digest(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "b.py").rename(tmp_path / "folder" / "b.py")
    assert len({first, second, third, tree_digest(tmp_path)}) == 4


def test_a_folder_is_replaced_as_a_whole_or_stays(tmp_path: Path, monkeypatch):
    path = tmp_path / "folder"
    for text in ("first", "second"):
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / text).write_text(text)
    assert [file.name for file in path.iterdir()] == ["second"]
    rename = Path.rename

    def fail(self: Path, target: Path) -> None:
        if target == path and self.name == "folder":  # only the new folder, not the old one
            raise OSError(28, "No space left on device")
        rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OutputError, match="No space left"), replacing(path) as temporary:  # noqa: PT012
        temporary.mkdir()
        (temporary / "third").write_text("third")
    assert [file.name for file in path.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [path]
