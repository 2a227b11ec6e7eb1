"""The split of a source into training, validation and test images."""

import math

import torch

from aae.data.images import Images, Source
from aae.errors import DataError
from aae.params import Data
from aae.seeding import stream

SPLITS = ("train", "validation", "test")


def split_source(source: Source, data: Data, seed: int) -> dict[str, Images]:
    """Split a source into train, validation and test, each with every class in proportion.

    If the source has separate test images, these are the test split.

    Args:
        source: the images.
        data: the section ``data`` of params.yaml, with the shares of images to hold out.
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
    """Hold out a share of every class; both parts keep the order of the source."""
    kept, held_out = [], []
    for label in images.labels.unique():
        members = torch.nonzero(images.labels == label).flatten()
        count = math.floor(share * len(members) + 0.5)
        # The silhouette needs at least two images of each class.
        if not 1 < count < len(members) - 1:
            raise DataError(
                f"{parameter}: {share} of the {len(members)} images of class {int(label)} "
                f"is {count}; both parts need at least two"
            )
        shuffled = members[torch.randperm(len(members), generator=generator)]
        held_out.append(shuffled[:count])
        kept.append(shuffled[count:])
    return images[torch.cat(kept).sort().values], images[torch.cat(held_out).sort().values]
