"""Images with their labels, in memory, and the data set that they come from."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from aae.data.pictures import resized
from aae.errors import DataError

# Labels are stored as uint8.
MOST_CLASSES = 256
# Images in memory that are read at once.
CHUNK = 4096


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
class Part:
    """The training or the test images of a source, not all in memory at once.

    Attributes:
        shape: channels, height and width.
        count: number N of the images.
        labels: int64 [N], the index of each image's class; None without labels.
        read: returns all images in order, as tensors uint8 [n, C, H, W]. They are read when they
            are asked for.
    """

    shape: tuple[int, int, int]
    count: int
    labels: Tensor | None
    read: Callable[[], Iterable[Tensor]]

    @classmethod
    def of(cls, images: Tensor, labels: Tensor | None, shape: tuple[int, int, int]) -> Self:
        """Return images in memory, uint8 [N, C, H, W], as a part with another shape or the same."""

        def read() -> Iterator[Tensor]:
            return (resized(chunk, shape) for chunk in images.split(CHUNK))

        return cls(shape, len(images), None if labels is None else labels.long(), read)

    def __len__(self) -> int:
        return self.count


@dataclass(frozen=True)
class Source:
    """A data set, before its images are split.

    Attributes:
        name: its name, or that of its file or folder.
        train: the training images.
        test: the test images; None if the data set has no separate test images.
        class_names: names of the classes, in the order of the labels; empty without labels.
    """

    name: str
    train: Part
    test: Part | None
    class_names: tuple[str, ...]


def check_source(source: Source) -> None:
    """Check that images, labels and classes fit together.

    Raises:
        DataError: if counts do not match, training and test images have different shapes, a label
            is not a class, a class has no image, or there are too many classes.
    """
    classes = len(source.class_names)
    if classes > MOST_CLASSES:
        raise DataError(
            f"{source.name} has {classes} classes; {MOST_CLASSES} are the most. To train without "
            "labels, put all images into one folder"
        )
    if source.test and source.test.shape != source.train.shape:
        raise DataError(
            f"the training images have shape {source.train.shape}, but the test images "
            f"{source.test.shape}"
        )
    for what, part in (("training", source.train), ("test", source.test)):
        if part is None or part.labels is None:
            continue
        if len(part) != len(part.labels):
            raise DataError(
                f"{len(part)} {what} images, but {len(part.labels)} labels: "
                "the files do not belong together"
            )
        counts = torch.bincount(part.labels, minlength=classes)
        if len(counts) > classes:
            raise DataError(
                f"a {what} image has label {len(counts) - 1}; "
                f"the last of the {classes} classes is {classes - 1}"
            )
        if (counts == 0).any():
            name = source.class_names[int(counts.argmin())]
            raise DataError(f"no {what} image is of class {name!r}")
