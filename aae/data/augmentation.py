"""Augmentation: random shifts, rotations, zooms, shears and flips of a batch of images."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from aae.params import Augment


def random_transforms(
    count: int, image_shape: tuple[int, ...], settings: Augment, generator: torch.Generator
) -> Tensor:
    """Draw affine maps [count, 2, 3] for :func:`transform`, one for each image.

    Every amount is uniformly distributed, from its negative to its positive limit. The numbers
    drawn do not depend on the limits.

    Args:
        count: number of images.
        image_shape: channels, height and width.
        settings: the section ``augment`` of params.yaml.
        generator: source of the numbers.
    """
    _, height, width = image_shape
    amounts = 2 * torch.rand(6, count, generator=generator) - 1
    right, down = settings.shift * amounts[:2]
    angle = math.radians(settings.rotate) * amounts[2]
    zoom, shear = 1 + settings.zoom * amounts[3], settings.shear * amounts[4] * (height / width)
    mirror = torch.where(amounts[5] < 2 * settings.flip - 1, -1.0, 1.0)
    # The map leads from a pixel of the new image to one of the old image, in units of half the
    # image, as torch's affine_grid has it.
    across, along = angle.sin() * height / width, angle.sin() * width / height
    rows = [
        mirror * angle.cos() / zoom, (shear - across) / zoom, right * 2 / width,
        mirror * along / zoom, angle.cos() / zoom, down * 2 / height,
    ]  # fmt: skip
    return torch.stack(rows, dim=1).view(count, 2, 3)


def transform(images: Tensor, transforms: Tensor) -> Tensor:
    """Return images [n, C, H, W] after affine maps [n, 2, 3]; pixels at the edge are continued."""
    grid = F.affine_grid(transforms, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def mirrored(images: Tensor, transforms: Tensor) -> Tensor:
    """Return images [n, C, H, W], of which those are mirrored that affine maps [n, 2, 3] mirror."""
    (a, b), (c, d) = transforms[:, :, :2].permute(1, 2, 0)
    mirrors = a * d < b * c  # the determinant is negative
    return torch.where(mirrors[:, None, None, None], images.flip(3), images)


def scaled(settings: Augment, factor: float) -> Augment:
    """Return the settings with all limits multiplied by a factor; flips stay as frequent."""
    limits = ("shift", "rotate", "zoom", "shear")
    return settings.model_copy(update={key: factor * getattr(settings, key) for key in limits})
