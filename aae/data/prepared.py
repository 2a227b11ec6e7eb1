"""The prepared data on disk.

Prepared data are a folder with a `meta.json` and NumPy files: `train_images.npy`,
`train_labels.npy` (if there are labels) and the same for `validation` and `test`. Reading
memory-maps the files, so that a stage holds only the parts in memory that it uses.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aae.data.images import Images, Source
from aae.data.splits import Split, read_splits
from aae.errors import DataError
from aae.files import replacing, tree_digest

PREPARED = Path("data/prepared")
PREPARE_AGAIN = "run `dvc repro --force prepare_data`"


def write_prepared(splits: Mapping[str, Split], source: Source) -> None:
    """Replace the folder data/prepared as a whole; only some images are in memory at a time.

    Raises:
        DataError: if images of the source cannot be read; the folder is then as it was.
    """
    with replacing(PREPARED) as folder, ExitStack() as stack:
        folder.mkdir()
        files = {}
        for name, split in splits.items():
            shape = (len(split), *split.part.shape)
            files[name] = stack.enter_context((folder / f"{name}_images.npy").open("wb"))
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(files[name], header)
            if split.labels is not None:
                np.save(folder / f"{name}_labels.npy", split.labels.numpy())
        for name, images in read_splits(splits):
            files[name].write(images.numpy().tobytes())
        meta = {
            "source": source.name,
            "class_names": source.class_names,
            "image_shape": list(source.train.shape),
            "counts": {name: len(split) for name, split in splits.items()},
        }
        (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")


def read_prepared(split: str) -> Images:
    """Read one split of data/prepared, memory-mapped.

    Args:
        split: "train", "validation" or "test".

    Raises:
        DataError: if the files are missing or damaged.
    """
    images, labels = _read_array(PREPARED / f"{split}_images.npy"), None
    if prepared_meta()["class_names"]:
        labels = _read_array(PREPARED / f"{split}_labels.npy")
    if images.ndim != 4 or (labels is not None and len(images) != len(labels)):
        raise DataError(
            f"{PREPARED}: {split} images {list(images.shape)} and labels "
            f"{None if labels is None else list(labels.shape)} do not belong together; "
            f"{PREPARE_AGAIN}"
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
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}; {PREPARE_AGAIN}") from error
    if not isinstance(meta, dict) or "class_names" not in meta:
        raise DataError(f"{path}: it has no class_names; {PREPARE_AGAIN}")
    return meta


def prepared_digest() -> str:
    """Return the SHA-256 of the prepared data."""
    return tree_digest(PREPARED)
