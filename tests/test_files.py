from pathlib import Path

import pandas as pd
import pytest

from aae.files import replacing, write_csv, write_json, write_text


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
