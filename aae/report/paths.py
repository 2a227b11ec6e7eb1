"""Straight paths between the codes of two images."""

import torch
from torch import Tensor

from aae.report.titles import spread

# Largest number of images in a row of a figure that stand for all images.
TYPICAL = 12


def straight_path(codes: Tensor, first: int, last: int, steps: int) -> Tensor:
    """Return codes [steps, d] at equal distances on the straight path between two codes."""
    return codes[first] + torch.linspace(0, 1, steps)[:, None] * (codes[last] - codes[first])


def typical_images(codes: Tensor, labels: Tensor | None) -> list[int]:
    """Return the indices of some images that stand for all.

    These are, for each class, the image whose code is nearest to the mean of the class. Of more
    than :data:`TYPICAL` classes there are only some, at equal distances in their order. Without
    labels, the images are at equal distances in the order of the first dimension of their codes, in
    pairs that are half of the way apart.

    Args:
        codes: codes [n, d].
        labels: classes [n]; None without labels.
    """
    if labels is None:
        found = spread(codes[:, 0].argsort(stable=True).tolist(), TYPICAL)
        half = len(found) // 2
        return [index for pair in zip(found[:half], found[half:], strict=False) for index in pair]
    indices = []
    for label in spread(labels.unique().tolist(), TYPICAL):
        own = torch.nonzero(labels == label).flatten()
        distances = (codes[own] - codes[own].mean(0)).norm(dim=1)
        indices.append(int(own[distances.argmin()]))
    return indices
