"""The address of MLflow's store, and checks of a store that is a file of this machine.

The default store is the SQLite database `mlflow.db` in the root of the repository, with files in
`mlartifacts/` next to it. MLflow itself retries for minutes if such a database cannot be used.
"""

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from aae.errors import StoreAwayError, TrackingError, without_password

# Seconds to wait for another program that writes to the database.
PATIENCE = 15.0
# What to do about an error of SQLite, by the beginning of its name.
# https://www.sqlite.org/rescode.html
REMEDIES = {
    "SQLITE_NOTADB": "it is not a database; move it away, or set MLFLOW_TRACKING_URI",
    "SQLITE_CORRUPT": "it is damaged; restore a backup or move it away",
    "SQLITE_READONLY": "it or its folder is read-only; change that, or set MLFLOW_TRACKING_URI",
    "SQLITE_CANTOPEN": "it cannot be opened; check its folder and permissions",
    "SQLITE_FULL": "the disk is full",
}
# Columns of MLflow's tables that hold addresses of files.
LOCATIONS = (
    ("experiments", "artifact_location"), ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"), ("model_versions", "source"),
    ("model_versions", "storage_location"),
)  # fmt: skip


def experiment_name() -> str:
    """Return the name of MLflow's experiment."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or "aae"


def store_uri(root: Path) -> str:
    """Return the address of the store: ``MLFLOW_TRACKING_URI``, or `mlflow.db` in the root.

    A relative path is relative to the original repository, even if a queued experiment runs in a
    copy of it.

    Raises:
        TrackingError: if the address is a folder, which MLflow no longer supports.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if uri.startswith(("sqlite:", "sqlite+")):
        try:
            url = make_url(uri)
        except ArgumentError as error:
            raise TrackingError(f"MLFLOW_TRACKING_URI: {error}") from error
        return _sqlite_uri(url, root / url.database) if url.database else uri
    if uri.startswith("file:") or not re.match(r"[a-z][a-z0-9+.-]*:|databricks", uri, re.I):
        raise TrackingError(
            f"MLFLOW_TRACKING_URI: {uri!r} is a folder, which MLflow no longer supports; "
            "use a database, such as sqlite:///mlflow.db, or the address of a server"
        )
    return uri


def _sqlite_uri(url: URL, database: Path) -> str:
    plain = url.set(drivername="sqlite", database=str(database))
    uri = plain.render_as_string(hide_password=False)
    if uri.partition("?")[0] == f"sqlite:///{database}":
        return uri
    # MLflow takes the path out of an address that begins with sqlite:/// as it is, and would make a
    # folder named what%3F for a database in a folder named what?.
    return plain.set(drivername="sqlite+pysqlite").render_as_string(hide_password=False)


def address(root: Path) -> str:
    """Return the address of the store, without a password, and the name of the experiment."""
    return f"{without_password(store_uri(root))}, experiment {experiment_name()}"


def database_file(uri: str) -> Path | None:
    """Return the file of an SQLite database; None if the address is of something else."""
    if not uri.startswith(("sqlite:", "sqlite+")):
        return None
    database = make_url(uri).database
    return Path(database) if database else None


def check_database(path: Path) -> None:
    """Check that an SQLite database can be read and written; a new one is created empty.

    Raises:
        StoreAwayError: if another program keeps it locked.
        TrackingError: if it cannot be used; says why, and what to do.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=PATIENCE)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("SELECT count(*) FROM sqlite_master")
            # A write shows whether the folder can take SQLite's journal, and nothing is changed.
            version = database.execute("PRAGMA user_version").fetchone()[0]
            database.execute(f"PRAGMA user_version = {version}")
            database.rollback()
    except OSError as error:
        raise TrackingError(f"MLflow's database {path}: {error.strerror}") from error
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise StoreAwayError(
                f"MLflow's database {path} has been locked by another program for {PATIENCE:.0f} s"
            ) from error
        found = (text for prefix, text in REMEDIES.items() if name.startswith(prefix))
        raise TrackingError(f"MLflow's database {path}: {next(found, error)}") from error


def is_new(database: Path) -> bool:
    """Return whether an SQLite database, which :func:`check_database` has checked, is empty."""
    with closing(sqlite3.connect(database, timeout=PATIENCE)) as connection:
        return not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def moved_to(uri: str, database: Path) -> str:
    """Return the address of an SQLite database with another file in it."""
    return _sqlite_uri(make_url(uri), database)


def check_folder(folder: Path) -> None:
    """Check that MLflow can create a database while it runs in a folder.

    It puts the name of the folder into a statement of SQL as Python would write it.

    Raises:
        TrackingError: if the database would be left without the experiment that MLflow needs.
    """
    name = str(folder)
    if ("'" in name and '"' in name) or re.search(r"(?<![:\w\\]):\w", name):
        raise TrackingError(
            f"MLflow cannot create its database in a folder with such a name ({name}): rename it "
            "so that it has one kind of quotes at most and no colon at the beginning of a word, or "
            "set MLFLOW_TRACKING_URI to the address of a server"
        )


def follow_move(database: Path, artifacts: Path) -> str | None:
    """Correct the addresses of files in the database of a project that was moved or copied.

    MLflow stores absolute addresses. The project that the database was copied from may still be
    there, and new runs would write into it.

    Args:
        database: the SQLite database, next to the folder of its files.
        artifacts: the folder of its files.

    Returns:
        The former address of that folder if it was another one, else None.
    """
    if database.parent != artifacts.parent:  # not the default store
        return None
    new = artifacts.as_uri()
    with closing(sqlite3.connect(database, timeout=PATIENCE)) as connection, connection:
        try:
            rows = connection.execute("SELECT artifact_location FROM experiments").fetchall()
        except sqlite3.OperationalError:  # a new database has no tables
            return None
        last = rf"^(.*/{artifacts.name})(/.*)?$"
        found = {re.sub(last, r"\1", row[0] or "") for row in rows}
        former = [x for x in found if x.startswith("file:") and x.endswith(f"/{artifacts.name}")]
        moved = [x for x in former if unquote(x) != unquote(new)]
        for old in moved:
            for table, column in LOCATIONS:
                columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
                if column not in {row[1] for row in columns}:  # of an older MLflow
                    continue
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                )
    return moved[0] if moved else None
