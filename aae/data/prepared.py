"""The prepared data on disk.

Prepared data are a folder with a `meta.json` and NumPy files: `train_images.npy`,
`train_labels.npy` and the same for `validation` and `test`. Reading memory-maps the files, so that
a stage holds only the parts in memory that it uses.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aae.data.images import Images
from aae.errors import DataError
from aae.files import replacing, tree_digest

PREPARED = Path("data/prepared")
PREPARE_AGAIN = "run `dvc repro --force prepare_data`"


def write_prepared(splits: dict[str, Images], source: str, class_names: tuple[str, ...]) -> None:
    """Replace the folder data/prepared as a whole."""
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
        # "c" (copy on write), since torch needs a writable array; nothing writes, hence no copy.
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: {error}; {PREPARE_AGAIN}") from error
    if array.dtype != np.uint8:
        raise DataError(f"{path} holds {array.dtype}; uint8 is expected")
    return torch.from_numpy(array)


def prepared_meta() -> dict:
    """Return the content of data/prepared/meta.json: source, class_names, image_shape, counts.

    Raises:
        DataError: if the file is missing or damaged.
    """
    path = PREPARED / "meta.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}; {PREPARE_AGAIN}") from error


def prepared_digest() -> str:
    """Return the SHA-256 of the prepared data."""
    return tree_digest(PREPARED)
