from pathlib import Path

import pytest
from projects import copy_project, run

from aae.errors import TrackingError
from aae.tracking.address import store_uri


@pytest.mark.parametrize(
    ("named", "store"),
    [
        ("", "sqlite:////my repo/mlflow.db"),
        ("sqlite:///mine.db", "sqlite:////my repo/mine.db"),
        ("sqlite:////other/mine.db", "sqlite:////other/mine.db"),
        ("postgresql+psycopg2://me:pa:ss@db/mlflow", "postgresql+psycopg2://me:pa:ss@db/mlflow"),
        ("HTTPS://mlflow.example", "HTTPS://mlflow.example"),
        ("databricks", "databricks"),
    ],
)
def test_files_of_a_store_are_in_the_repository_and_addresses_stay(named, store, monkeypatch):
    for _ in range(2):  # MLflow writes the result into the environment
        monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
        named = store_uri(Path("/my repo"))
        assert named == store


@pytest.mark.parametrize("named", ["my store", "./runs", "file:store", "file:///other/store"])
def test_a_folder_is_refused(named, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
    with pytest.raises(TrackingError, match=r"is a folder, .* such as sqlite:///mlflow.db"):
        store_uri(Path("/my repo"))


def test_an_evaluation_refuses_a_folder_before_its_work(tmp_path):
    project = copy_project(tmp_path / "project", {})  # in which there is nothing to evaluate
    stage = ["python", "stages/eval_latent.py"]
    result = run(stage, project, check=False, MLFLOW_TRACKING_URI="./runs")
    assert result.returncode == 1
    assert result.stderr.startswith("error: MLFLOW_TRACKING_URI: './runs' is a folder")
