"""Images with their labels, and a published data set."""

from dataclasses import dataclass

import torch
from torch import Tensor

from aae.errors import DataError


@dataclass(frozen=True)
class Images:
    """Images, with labels if they have any.

    Attributes:
        images: uint8 [N, C, H, W].
        labels: uint8 [N], the index of each image's class; None without labels.
    """

    images: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Tensor) -> "Images":
        return Images(self.images[indices], None if self.labels is None else self.labels[indices])


@dataclass(frozen=True)
class Source:
    """A published data set, before its images are split.

    Attributes:
        train: the training images.
        test: the test images; None if the data set has no separate test images.
        class_names: names of the classes, in the order of the labels.
    """

    train: Images
    test: Images | None
    class_names: tuple[str, ...]


def check_source(source: Source) -> None:
    """Check that images, labels and classes fit together.

    Raises:
        DataError: if counts do not match, there are no images or they have an unexpected shape, a
            label is not a class, or a class has no image.
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
            raise DataError(f"the {what} images have shape {shape}; (1, 28, 28) is expected")
        counts = torch.bincount(part.labels.int(), minlength=classes)
        if len(counts) > classes:
            raise DataError(
                f"a {what} image has label {len(counts) - 1}; "
                f"the last of the {classes} classes is {classes - 1}"
            )
        if (counts == 0).any():
            name = source.class_names[int(counts.argmin())]
            raise DataError(f"no {what} image is of class {name!r}")
