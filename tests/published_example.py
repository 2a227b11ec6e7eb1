"""Small data sets in the formats of torchvision's."""

import bz2
import pickle
from pathlib import Path

import numpy as np
import scipy.io
from support import write_idx

from aae.data.published import PUBLISHED

# Numbers of classes other than ten.
CLASSES = {"emnist-letters": 26}


def write_published(name: str, root: Path, per_class: int = 4) -> dict[str, tuple]:
    """Write training and test images [N, C, H, W] of a data set; return them with their labels."""
    rng, written = np.random.default_rng(0), {}
    root.mkdir(parents=True, exist_ok=True)
    classes = CLASSES.get(name, 10)
    shape = {"usps": (1, 16, 16), "svhn": (3, 32, 32), "cifar10": (3, 32, 32)}.get(
        name, (1, 28, 28)
    )
    for part in ("train", "test"):
        labels = np.arange(per_class * classes) % classes
        images = rng.integers(0, 256, (len(labels), *shape), dtype=np.uint8)
        written[part] = images, labels
        if name in ("mnist", "fashion-mnist", "kmnist"):
            raw, start = root / PUBLISHED[name].folder, "train" if part == "train" else "t10k"
            write_idx(raw / f"{start}-images-idx3-ubyte", images[:, 0])
            write_idx(raw / f"{start}-labels-idx1-ubyte", labels)
        elif name == "emnist-letters":
            raw, start = root / "EMNIST" / "raw", f"emnist-letters-{part}"
            write_idx(raw / f"{start}-images-idx3-ubyte", images[:, 0].transpose(0, 2, 1))
            write_idx(raw / f"{start}-labels-idx1-ubyte", labels + 1)
        elif name == "qmnist":
            raw = root / "QMNIST" / "raw"
            write_idx(raw / f"qmnist-{part}-images-idx3-ubyte", images[:, 0])
            columns = np.zeros((len(labels), 8), ">i4")
            columns[:, 0], columns[:, 1] = labels, 7
            header = bytes([0, 0, 12, 2]) + b"".join(n.to_bytes(4, "big") for n in columns.shape)
            (raw / f"qmnist-{part}-labels-idx2-int").write_bytes(header + columns.tobytes())
        elif name == "usps":
            rows = [
                f"{label + 1} " + " ".join(f"{k}:{x / 127.5 - 1:.6f}" for k, x in enumerate(row, 1))
                for label, row in zip(labels, images.reshape(len(labels), -1), strict=True)
            ]
            content = bz2.compress("\n".join(rows).encode())
            (root / f"usps{'' if part == 'train' else '.t'}.bz2").write_bytes(content)
        elif name == "svhn":
            content = {
                "X": images.transpose(2, 3, 1, 0),
                "y": np.where(labels == 0, 10, labels)[:, None],
            }
            scipy.io.savemat(root / f"{part}_32x32.mat", content)
        elif name == "cifar10":
            folder = root / "cifar-10-batches-py"
            folder.mkdir(exist_ok=True)
            names = [f"data_batch_{k}" for k in range(1, 6)] if part == "train" else ["test_batch"]
            for file, rows in zip(
                names, np.array_split(np.arange(len(labels)), len(names)), strict=True
            ):
                data = images[rows].reshape(len(rows), -1)
                batch = {"data": data, "labels": labels[rows].tolist(), "filenames": ["a.png"]}
                (folder / file).write_bytes(pickle.dumps(batch, protocol=2))
    return written
