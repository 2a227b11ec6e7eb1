"""Fixtures that several tests need; support.py has the functions behind them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from servers import Server
from support import make_digits, write_idx, write_params

from aae.data import SPLITS, Images
from aae.params import Params
from aae.pipeline.parameters import read_params


@pytest.fixture
def make_params(tmp_path: Path) -> Callable[[dict], Params]:
    """Load the project's params.yaml with changes by dotted name; None deletes a key."""
    return lambda changes: read_params(write_params(tmp_path / "params.yaml", changes))


@pytest.fixture
def digits() -> torch.Tensor:
    """Sixty images that an autoencoder can learn."""
    return make_digits(60)


@pytest.fixture
def splits(digits) -> dict[str, Images]:
    """The images of ``digits`` in three splits, with their classes."""
    labels = (torch.arange(len(digits)) % 3).to(torch.uint8)
    parts = torch.arange(len(digits)).split(len(digits) // 3)
    return {name: Images(digits[i], labels[i]) for name, i in zip(SPLITS, parts, strict=True)}


@pytest.fixture
def mnist_root(tmp_path: Path) -> Path:
    """A folder with 200 + 50 random images in MNIST's format, every class in proportion."""
    rng = np.random.default_rng(0)
    raw = tmp_path / "source" / "MNIST" / "raw"
    for part, count in (("train", 200), ("t10k", 50)):
        write_idx(raw / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (count, 28, 28)))
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    return raw.parent.parent


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    root = tmp_path / "repository"
    (root / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(root)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    return root


@pytest.fixture(scope="session")
def started(tmp_path_factory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(started, repository, monkeypatch) -> Server:
    started.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", started.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", repository.parent.name)
    return started
