"""Stores that cannot be used, and projects in folders of any name, with real databases."""

import http.server
import os
import resource
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from support import training_run

from aae.errors import StoreAwayError, TrackingError
from aae.tracking import address
from aae.tracking.store import connect


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project with a store that has one run with a file."""
    root = tmp_path_factory.mktemp("first") / "project"
    (root / ".dvc").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
        write_run()
    return root


@pytest.fixture
def copied(project, tmp_path, monkeypatch) -> Callable[[str], Path]:
    """Return a function that copies the project into a folder of a name, and goes there."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)

    def copy(name: str) -> Path:
        folder = tmp_path / "folder of projects" / name
        shutil.copytree(project, folder)
        monkeypatch.chdir(folder)
        # MLflow has written the address of the last test into the environment.
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return folder

    return copy


def write_run() -> None:
    with training_run("train_aae", "gamma", 0, {}) as tracked:
        tracked.log_epoch({"epoch": 1, "generator_loss": 0.5})
        folder = Path("figures")
        folder.mkdir(exist_ok=True)
        (folder / "losses.txt").write_text("a figure")
        tracked.log_evaluation({}, empty_table(), folder)


def empty_table():
    import pandas as pd

    return pd.DataFrame({"low": [0]})


def figures() -> list[str]:
    """Return the figure of every run of the current store."""
    found = mlflow.search_runs(experiment_names=["aae"], output_format="list")
    return [
        mlflow.artifacts.load_text(f"{run.info.artifact_uri}/figures/losses.txt") for run in found
    ]


NAMES = [
    "what?", "50%25 Übung", "a#b", "x;y&z", "quo'te", 'quo"te', "日本 語", "-leading", " blanks ",
    "n" * 200,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_project_may_be_in_a_folder_of_any_name(copied, name):
    root = copied(name)
    write_run()
    assert figures() == ["a figure"] * 2
    assert [path.name for path in root.parent.iterdir()] == [name], "nothing outside of the project"
    assert {path.name for path in root.iterdir()} == {
        ".dvc", "figures", "mlartifacts", "mlflow.db"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["both 'kinds' of \"quotes\"", "a :colon"])
def test_a_folder_in_which_mlflow_cannot_create_a_database_is_named(copied, name):
    (copied(name) / "mlflow.db").unlink()
    assert "rename it so that it has one kind of quotes at most and no colon" in refused()
    assert not Path("mlflow.db").stat().st_size


def test_a_disk_without_space_leaves_no_database_with_some_of_its_tables(copied):
    root = copied("full")
    (root / "mlflow.db").unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(StoreAwayError, match=r"mlflow.db does not answer \(.*(full|disk I/O)"):
            connect(root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(x.name for x in root.iterdir()) == [
        ".dvc", "figures", "mlartifacts", "mlflow.db"
    ]  # fmt: skip
    connect(root)  # when there is space again


def test_a_copied_project_has_its_old_files_and_writes_new_ones_beside_them(
    copied, project, capsys
):
    before = sorted(path for path in project.rglob("*"))
    root = copied("copy")
    write_run()
    assert "MLflow now finds its files here" in capsys.readouterr().out
    assert figures() == ["a figure"] * 2
    for run in mlflow.search_runs(experiment_names=["aae"], output_format="list"):
        assert run.info.artifact_uri.startswith((root / "mlartifacts").as_uri())
    assert sorted(path for path in project.rglob("*")) == before
    write_run()
    assert "MLflow now finds" not in capsys.readouterr().out


def test_a_project_in_a_folder_with_the_name_of_its_artifacts_is_left_as_it_is(copied, capsys):
    root = copied("mlartifacts")
    connect(root)
    assert "MLflow now finds" in capsys.readouterr().out
    for _ in range(2):
        write_run()
        assert figures()[0] == "a figure"
        assert "MLflow now finds" not in capsys.readouterr().out


def test_a_moved_project_does_not_bring_its_old_folder_back(copied, tmp_path, monkeypatch):
    first = copied("first place")
    connect(first)  # its addresses are now those of this place
    second = tmp_path / "second place"
    monkeypatch.chdir(tmp_path)
    first.rename(second)
    monkeypatch.chdir(second)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_run()
    assert figures() == ["a figure"] * 2
    assert not first.exists()


def set_version(root: Path, version: str) -> None:
    with closing(sqlite3.connect(root / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", [version])


def refused() -> str:
    """Return the reason for which a training stage does not begin."""
    with pytest.raises(TrackingError) as error, training_run("train_aae", "gamma", 0, {}):
        pytest.fail("the training must not begin")
    assert not isinstance(error.value, StoreAwayError)
    assert not Path("mlflow-spool").exists()
    return str(error.value)


def test_a_database_of_an_older_mlflow_is_refused_with_the_command_that_upgrades_it(copied):
    root = copied("older version?")
    set_version(root, "1971f2d9a75b")
    reason = refused()
    assert "older MLflow" in reason
    assert "mlflow db upgrade 'sqlite+pysqlite:///" in reason
    assert "older version%3F/mlflow.db'`" in reason, "the whole address"


def test_a_database_of_a_newer_mlflow_is_refused(copied):
    set_version(copied("newer"), "ffffffffffff")
    assert "newer MLflow" in refused()


def test_a_deleted_experiment_is_refused_with_the_command_that_restores_it(copied):
    root = copied("deleted")
    store = connect(root)
    mlflow.delete_experiment(store.experiment)
    reason = refused()
    assert f"mlflow experiments restore --experiment-id {store.experiment}" in reason
    assert "MLFLOW_EXPERIMENT_NAME" in reason
    mlflow.MlflowClient().restore_experiment(store.experiment)
    write_run()
    assert figures() == ["a figure"] * 2


def test_another_experiment_name_avoids_a_deleted_experiment(copied, monkeypatch):
    root = copied("renamed")
    mlflow.delete_experiment(connect(root).experiment)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    write_run()
    assert len(mlflow.search_runs(experiment_names=["another"], output_format="list")) == 1


def test_a_file_that_is_no_database_is_refused(copied):
    (copied("text") / "mlflow.db").write_text("no database\n" * 100)
    assert "mlflow.db: it is not a database" in refused()


def test_a_damaged_database_is_refused(copied):
    path = copied("damaged") / "mlflow.db"
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996  # the first page, after the header
    path.write_bytes(content)
    assert "mlflow.db: it is damaged" in refused()


def test_a_folder_in_place_of_the_database_is_refused(copied):
    path = copied("folder") / "mlflow.db"
    path.unlink()
    path.mkdir()
    assert "mlflow.db: it cannot be opened" in refused()


def test_a_file_in_place_of_its_folder_is_refused(copied, monkeypatch):
    (copied("file") / "stores").write_text("")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///stores/mine.db")
    assert "stores/mine.db: " in refused()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to files that are read-only")
def test_a_read_only_database_is_refused(copied):
    (copied("read-only") / "mlflow.db").chmod(0o444)
    assert "mlflow.db: it or its folder is read-only" in refused()


def test_a_database_in_a_folder_that_is_read_only_is_refused(copied):
    root = copied("read-only folder")
    root.chmod(0o500)
    try:
        if os.access(root, os.W_OK):
            pytest.skip("root may write everywhere")
        (root / "mlflow.db").chmod(0o600)
        assert "its folder is read-only; change that" in refused()
    finally:
        root.chmod(0o700)


def test_a_locked_database_is_waited_for_and_then_away(copied, monkeypatch):
    root = copied("locked")
    monkeypatch.setattr(address, "PATIENCE", 0.1)
    with closing(sqlite3.connect(root / "mlflow.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreAwayError, match="locked by another program"):
            connect(root)
    connect(root)


def test_an_address_that_is_none_is_refused(copied, monkeypatch):
    copied("nowhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:mine.db")
    assert "MLFLOW_TRACKING_URI" in refused()


@pytest.fixture
def answering(copied, monkeypatch) -> Iterator[Callable[[int, str], None]]:
    """Return a function that starts a server on loopback with one answer to everything."""
    servers = []

    def start(status: int, body: str) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_POST = answer  # noqa: N815 (names of the base class)

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")

    copied("of a server")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "hint"),
    [
        (401, "", "MLFLOW_TRACKING_USERNAME"),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "no"}', "the right to write"),
        (404, "<html>" + "a page " * 1000, "the address of an MLflow server"),
    ],
)
def test_what_a_server_refuses_is_told_with_what_to_do(answering, status, body, hint):
    answering(status, body)
    reason = refused()
    assert hint in reason
    assert len(reason) < 600


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_or_broken_is_away(answering, status):
    answering(status, "")
    with pytest.raises(StoreAwayError, match="does not answer"):
        connect(Path.cwd())
