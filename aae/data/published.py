"""The published data sets of torchvision that `data.source` can name, read or downloaded."""

import pickle
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from aae.errors import DataError, OutputError, ParameterError
from aae.files import check_writable, replacing
from aae.workspace import locked, project_root

# Seconds that a mirror may be silent.
PATIENCE = 30.0
DIGITS = tuple(str(digit) for digit in range(10))
# Images uint8 [N, C, H, W] and labels [N].
Arrays = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Published:
    """A data set of torchvision.

    Attributes:
        torchvision: the name of torchvision's class.
        folder: the folder of its files below `data.root`, which belongs to it alone; "." for files
            directly in `data.root`.
        files: names of its files, unzipped.
        class_names: names of its classes.
        options: arguments with which torchvision's class reads the training images and the test
            images, or downloads them.
        read: reads the training images or the test images from the root, given these arguments;
            None: torchvision's class reads them.
    """

    torchvision: str
    folder: str
    files: tuple[str, ...]
    class_names: tuple[str, ...]
    options: tuple[Mapping[str, Any], Mapping[str, Any]] = ({"train": True}, {"train": False})
    read: Callable[[Path, Mapping[str, Any]], Arrays] | None = None


def _idx(*parts: str, labels: str = "labels-idx1-ubyte") -> tuple[str, ...]:
    """Return names of files in MNIST's format."""
    return tuple(f"{part}-{what}" for part in parts for what in ("images-idx3-ubyte", labels))


def _read_cifar10(root: Path, options: Mapping[str, Any]) -> Arrays:
    """Read CIFAR-10's pickles; unlike torchvision's class, run no code that a file may contain."""
    names = [f"data_batch_{k}" for k in range(1, 6)] if options["train"] else ["test_batch"]
    batches = []
    for name in names:
        with (root / "cifar-10-batches-py" / name).open("rb") as file:
            batches.append(_ArraysOnly(file, encoding="latin1").load())
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([batch["labels"] for batch in batches])
    return torch.from_numpy(images), torch.from_numpy(labels)


class _ArraysOnly(pickle.Unpickler):
    """Unpickles lists, dicts, text and NumPy arrays, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {"_reconstruct", "ndarray", "dtype", "encode"}
        if module.split(".")[0] in ("numpy", "_codecs") and name in allowed:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")


def _read_svhn(root: Path, options: Mapping[str, Any]) -> Arrays:
    """Read SVHN's files of MATLAB, in which 10 stands for the digit 0."""
    from scipy.io import loadmat

    content = loadmat(root / f"{options['split']}_32x32.mat")
    images = np.ascontiguousarray(content["X"].transpose(3, 2, 0, 1))
    labels = content["y"].astype(np.int64).reshape(-1) % 10
    return torch.from_numpy(images), torch.from_numpy(labels)


PUBLISHED = {
    "mnist": Published("MNIST", "MNIST/raw", _idx("train", "t10k"), DIGITS),
    "fashion-mnist": Published(
        "FashionMNIST", "FashionMNIST/raw", _idx("train", "t10k"),
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
         "Ankle boot"),
    ),
    "kmnist": Published(
        "KMNIST", "KMNIST/raw", _idx("train", "t10k"),
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    ),
    "qmnist": Published(
        "QMNIST", "QMNIST/raw", _idx("qmnist-train", "qmnist-test", labels="labels-idx2-int"),
        DIGITS,
    ),
    "emnist-letters": Published(
        "EMNIST", "EMNIST/raw", _idx("emnist-letters-train", "emnist-letters-test"),
        tuple("abcdefghijklmnopqrstuvwxyz"),
        ({"split": "letters", "train": True}, {"split": "letters", "train": False}),
    ),
    "usps": Published("USPS", ".", ("usps.bz2", "usps.t.bz2"), DIGITS),
    "svhn": Published(
        "SVHN", ".", ("train_32x32.mat", "test_32x32.mat"), DIGITS,
        ({"split": "train"}, {"split": "test"}), _read_svhn,
    ),
    "cifar10": Published(
        "CIFAR10", "cifar-10-batches-py",
        (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"),
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        read=_read_cifar10,
    ),
}  # fmt: skip


def read_published(name: str, root: Path) -> tuple[Arrays, Arrays]:
    """Read the training and the test images of a data set; download it if it is not there.

    Args:
        name: a key of :data:`PUBLISHED`.
        root: the folder `data.root`.

    Raises:
        ParameterError: if files are missing and cannot be downloaded.
        DataError: if files are damaged.
    """
    entry = PUBLISHED[name]
    _fetch(name, entry, root)
    read, found = entry.read or _torchvision_reader(name, entry), []
    for what, options in zip(("training", "test"), entry.options, strict=True):
        try:
            images, labels = read(root, options)
            if images.dtype != torch.uint8 or images.dim() != 4 or labels.dim() != 1:
                raise ValueError(f"images {images.dtype} {list(images.shape)}")
        except Exception as error:  # errors of any type for damaged files
            raise DataError(
                f"{root / entry.folder}: the {what} images or labels are damaged "
                f"({type(error).__name__}: {error}); delete the files to download them again, or "
                "replace them"
            ) from error
        found.append((images, labels.long()))
    return found[0], found[1]


def _torchvision_reader(name: str, entry: Published) -> Callable[[Path, Mapping[str, Any]], Arrays]:
    from aae.data._torchvision import datasets

    def read(root: Path, options: Mapping[str, Any]) -> Arrays:
        part = getattr(datasets, entry.torchvision)(root, **options)
        images, labels = torch.as_tensor(part.data)[:, None], torch.as_tensor(part.targets)
        if name == "qmnist":  # the other columns name the writer
            labels = labels[:, 0]
        if name == "emnist-letters":  # its images lie on their sides, and "a" is 1
            images, labels = images.transpose(2, 3).contiguous(), labels - 1
        return images, labels

    return read


def _fetch(name: str, entry: Published, root: Path) -> None:
    """Download a data set that is not below ``root``; each file is there completely or not at all.

    Experiments that run in parallel share the folder: one downloads, the others wait for it.
    """
    folder, shared = root / entry.folder, entry.folder == "."

    def missing() -> list[str]:
        return [file for file in entry.files if not (folder / file).is_file()]

    if not (lacking := missing()):
        return
    if not shared and len(lacking) < len(entry.files):  # a download would overwrite the others
        files = ", ".join(lacking)
        raise ParameterError(f"data.root: {folder} lacks {files}; add them, or delete the others")
    # The download goes to a temporary folder first, so that a failure leaves no folder at a
    # mistyped path.
    with locked(project_root(Path.cwd()), "download"), TemporaryDirectory() as temporary:
        if not missing():  # another experiment has just made it
            return
        if not shared and folder.exists():  # it may hold zipped files
            shutil.copytree(folder, Path(temporary, entry.folder))
        _download(name, entry, Path(temporary), folder)
        lock = root / f".{entry.torchvision}.lock"
        try:
            check_writable(lock)
            with FileLock(lock):  # experiments on other machines may share this folder
                if folder.exists():
                    for file in missing():
                        with replacing(folder / file) as new:
                            shutil.copy2(Path(temporary, entry.folder, file), new)
                else:
                    with replacing(folder) as new:
                        new.mkdir()
                        for file in entry.files:
                            shutil.copy2(Path(temporary, entry.folder, file), new)
        except OutputError as error:
            raise ParameterError(f"data.root: {error}") from error


def _download(name: str, entry: Published, to: Path, folder: Path) -> None:
    from aae.data._torchvision import datasets

    before = socket.getdefaulttimeout()
    # torchvision sets no limit: a mirror that accepts a connection and says nothing would hold the
    # lock for ever.
    socket.setdefaulttimeout(PATIENCE)
    try:
        for options in entry.options:
            getattr(datasets, entry.torchvision)(to, download=True, **options)
    except Exception as error:
        raise ParameterError(
            f"data.source: {name} is not below data.root and could not be downloaded "
            f"({type(error).__name__}: {error}); put its files {', '.join(entry.files)} into "
            f"{folder}"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
