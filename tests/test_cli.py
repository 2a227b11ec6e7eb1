"""The installed command `aae`."""

import sys
from importlib.metadata import version

import pytest
from click.testing import CliRunner
from projects import run

from aae.cli import main
from aae.errors import DataError


def test_alone_it_lists_the_commands_and_imports_nothing_heavy(tmp_path):
    program = (
        "import sys; from aae.cli import main; main(['--help'], standalone_mode=False); "
        "print({'torch', 'mlflow', 'ray', 'pandas'} & set(sys.modules))"
    )
    lines = run(["python", "-c", program], tmp_path).stdout.splitlines()
    assert lines[-1] == "set()"
    alone = run(["aae"], tmp_path, check=False)
    listed = {
        line.split()[0] for line in (alone.stdout + alone.stderr).splitlines() if line.strip()
    }
    assert listed >= {"ui", "sync", "sweep", "regression"}
    assert listed >= {
        "encode",
        "decode",
        "sample",
        "reconstruct",
        "score",
        "interpolate",
        "classify",
    }


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_has_a_help_with_an_example(command):
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert f"  aae {command}" in result.output or f" aae {command}\n" in result.output
    assert "Example" in result.output


def test_it_knows_its_version():
    assert CliRunner().invoke(main, ["--version"]).output == f"aae {version('aae')}\n"


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (
            DataError("no images\nat https://me:secret@host/"),
            1,
            "error: no images at https://host/\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_are_one_line(monkeypatch, capsys, error, code, printed):
    def fail() -> None:
        raise error

    monkeypatch.setattr("aae.tracking.ui.serve", fail)
    with pytest.raises(SystemExit) as ended:
        main(["ui"])
    if isinstance(ended.value.code, str):  # what Python prints before it exits with 1
        print(ended.value.code, file=sys.stderr)
    assert (ended.value.code if isinstance(ended.value.code, int) else 1) == code
    assert capsys.readouterr().err == printed


@pytest.mark.parametrize(
    ("command", "code"), [("sync", 0), ("ui", "error: .* is in no repository of the project; ")]
)
def test_outside_of_a_repository_nothing_is_left(tmp_path, monkeypatch, command, code):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(SystemExit, match=str(code)):
        main([command])
    assert list(tmp_path.iterdir()) == []
