"""The split of a source into training, validation and test images."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aae.data.images import Images, Part, Source
from aae.errors import DataError
from aae.params import Data
from aae.seeding import stream

SPLITS = ("train", "validation", "test")
# Fewest images of each split that can be measured. Training: ten neighbours vote on the class of a
# code, and ten Gaussians are fitted. Validation: these images choose the width of Parzen windows.
# Test: the ball around a prior sample reaches to its fifth neighbour.
FEWEST = {"train": 10, "validation": 1, "test": 6}


@dataclass(frozen=True)
class Split:
    """Some of the images of a source.

    Attributes:
        part: the training or test images of the source.
        rows: which of them, in ascending order.
    """

    part: Part
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> Tensor | None:
        """The labels uint8 [n]; None without labels."""
        labels = self.part.labels
        return None if labels is None else labels[self.rows].to(torch.uint8)


def split_source(source: Source, data: Data, seed: int) -> dict[str, Split]:
    """Split a source into train, validation and test, each with every class in proportion.

    If the source has separate test images, these are the test split.

    Args:
        source: the images.
        data: the section ``data`` of params.yaml, with the shares of images to hold out.
        seed: the seed of params.yaml.

    Raises:
        DataError: if there are too few images, or a class is too small to be in every split.
    """
    train, names, generator = _all(source.train), source.class_names, stream(seed, "split")
    if source.test:
        test = _all(source.test)
    else:
        train, test = _hold_out(train, data.test_share, "data.test_share", names, generator)
    train, validation = _hold_out(
        train, data.validation_share, "data.validation_share", names, generator
    )
    return {"train": train, "validation": validation, "test": test}


def _all(part: Part) -> Split:
    return Split(part, torch.arange(len(part)))


def _hold_out(
    split: Split,
    share: float,
    parameter: str,
    class_names: Sequence[str],
    generator: torch.Generator,
) -> tuple[Split, Split]:
    """Hold out a share of every class; both parts keep the order of the source."""
    kept, held_out = [], []
    labels = split.labels
    # Images without labels are split as one class.
    classes = torch.zeros(len(split)) if labels is None else labels
    for label in classes.unique():
        members = split.rows[classes == label]
        count = math.floor(share * len(members) + 0.5)
        # One image of a class would say nothing of how the class varies.
        if not 1 < count < len(members) - 1:
            whose = "" if labels is None else f" of class {class_names[int(label)]}"
            raise DataError(
                f"{parameter}: {share} of the {len(members)} images{whose} "
                f"is {count}; both parts need at least two"
            )
        shuffled = members[torch.randperm(len(members), generator=generator)]
        held_out.append(shuffled[:count])
        kept.append(shuffled[count:])
    rest, part = (Split(split.part, torch.cat(rows).sort().values) for rows in (kept, held_out))
    return rest, part


def check_counts(splits: Mapping[str, Images | Split]) -> None:
    """Check that there are enough images for every measure.

    Raises:
        DataError: if there are too few; says how many are needed.
    """
    needed = dict(FEWEST)
    for name in ("train", "test"):
        labels = splits[name].labels
        if labels is not None:
            classes = len(labels.unique())
            if classes < 2:
                raise DataError(
                    f"all {name} images are of one class; the evaluation needs images of at least "
                    "two, or images without labels"
                )
            if name == "test":  # the silhouette needs two images of a class
                needed[name] = max(needed[name], classes + 1)
    for name, count in needed.items():
        if len(splits[name]) < count:
            raise DataError(
                f"the evaluation needs at least {count} {name} images, but there are "
                f"{len(splits[name])}: add images, or change data.test_share or "
                "data.validation_share"
            )


def read_splits(splits: Mapping[str, Split]) -> Iterator[tuple[str, Tensor]]:
    """Yield the images of all splits in parts, which follow each other in each split.

    Every image of the source is read once.

    Yields:
        The name of a split, and some of its images, uint8 [n, C, H, W].
    """
    for part in {id(split.part): split.part for split in splits.values()}.values():
        first = 0
        own = {name: split.rows for name, split in splits.items() if split.part is part}
        for images in part.read():
            for name, rows in own.items():
                low, high = torch.searchsorted(rows, torch.tensor([first, first + len(images)]))
                if low < high:
                    yield name, images[rows[low:high] - first]
            first += len(images)


def in_memory(splits: Mapping[str, Split]) -> dict[str, Images]:
    """Return the images and labels of all splits."""
    found: dict[str, list[Tensor]] = {name: [] for name in splits}
    for name, images in read_splits(splits):
        found[name].append(images)
    return {name: Images(torch.cat(found[name]), split.labels) for name, split in splits.items()}
