"""Straight paths between the codes of two images."""

import torch
from torch import Tensor


def straight_path(codes: Tensor, first: int, last: int, steps: int) -> Tensor:
    """Return codes [steps, d] at equal distances on the straight path between two codes."""
    return codes[first] + torch.linspace(0, 1, steps)[:, None] * (codes[last] - codes[first])


def typical_images(codes: Tensor, labels: Tensor) -> list[int]:
    """Return, for each class, the index of the code that is nearest to the mean of the class.

    Args:
        codes: codes [n, d].
        labels: classes [n].
    """
    indices = []
    for label in labels.unique():
        own = torch.nonzero(labels == label).flatten()
        distances = (codes[own] - codes[own].mean(0)).norm(dim=1)
        indices.append(int(own[distances.argmin()]))
    return indices
