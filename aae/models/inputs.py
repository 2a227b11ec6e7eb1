"""Images, codes and labels as a user gives them, checked, as tensors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aae.errors import DataError, unknown

# Images as an array, or the paths of picture files.
Images: TypeAlias = Tensor | NDArray[Any] | str | Path | Sequence[str | Path]
Codes: TypeAlias = Tensor | NDArray[Any]
# One category for all, or one for each, by name or number; or the probabilities of the categories.
Classes: TypeAlias = str | int | Sequence[str] | Sequence[int] | Tensor | NDArray[Any]

# Largest difference from 1 of the sum of probabilities, which may be of half precision.
TOLERANCE = 0.01


def needed(*shape: object) -> str:
    """Return a shape as messages have it.

    Example:
        >>> needed("N", 1, 28, 28)
        '(N, 1, 28, 28)'
    """
    return f"({', '.join(map(str, shape))})"


def shaped_images(images: object, image_shape: tuple[int, int, int]) -> Tensor:
    """Return images as [N, C, H, W].

    Args:
        images: an array of one of the shapes that :class:`aae.TrainedModel` names.
        image_shape: channels, height and width.

    Raises:
        DataError: if they are not an array, or have another shape.

    Example:
        >>> shaped_images(np.zeros((5, 4, 6)), (1, 4, 6)).shape
        torch.Size([5, 1, 4, 6])
    """
    found = _tensor(images, "images")
    channels, height, width = image_shape
    given = tuple(found.shape)
    if given[1:] == image_shape and len(given) == 4:
        return found
    if given == image_shape:
        return found[None]
    if channels == 1 and given[-2:] == (height, width) and len(given) in (2, 3):
        return found.reshape(-1, 1, height, width)
    raise DataError(f"images of shape {given}; {needed('N', *image_shape)} is needed")


def checked_values(images: Tensor) -> Tensor:
    """Return images with values that a model can see, uint8 or float32.

    Raises:
        DataError: if they have other values.

    Example:
        >>> checked_values(torch.full((1, 1, 4, 6), 0.5, dtype=torch.double)).dtype
        torch.float32
    """
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise DataError(
            f"images are {images.dtype}; uint8 from 0 to 255 or floats from 0 to 1 are needed"
        )
    if not images.isfinite().all():
        raise DataError("images hold NaN or infinite values; floats from 0 to 1 are needed")
    if images.numel() and (images.min() < 0 or images.max() > 1):
        raise DataError(
            f"images are floats from {images.min():g} to {images.max():g}; "
            "floats from 0 to 1 or uint8 from 0 to 255 are needed"
        )
    return images.float()


def checked_codes(codes: Codes, latent_dim: int) -> Tensor:
    """Return codes as float32 [N, d].

    Args:
        codes: numbers of shape [N, d] or [d].
        latent_dim: dimensions d of a code.

    Raises:
        DataError: if they have another shape, or are not finite.

    Example:
        >>> checked_codes(np.array([1.0, -1.0]), 2)
        tensor([[ 1., -1.]])
    """
    found = _tensor(codes, "codes")
    given = tuple(found.shape)
    if len(given) not in (1, 2) or given[-1] != latent_dim:
        raise DataError(f"codes of shape {given}; {needed('N', latent_dim)} is needed")
    if found.dtype == torch.bool or found.is_complex():
        raise DataError(f"codes are {found.dtype}; floats are needed")
    found = found.reshape(-1, latent_dim).float()
    if not found.isfinite().all():
        raise DataError("codes hold NaN or infinite values; finite numbers are needed")
    return found


def checked_labels(labels: Classes, count: int, names: Sequence[str]) -> Tensor:
    """Return labels as numbers of categories [N], or as probabilities of categories [N, K].

    Args:
        labels: names or numbers, N of them or a single one for all; or probabilities [N, K].
        count: number N of the codes or images that they belong to.
        names: what a user calls the K categories.

    Raises:
        DataError: if there is no such category, or they are not as many as needed.

    Example:
        >>> checked_labels(["dog", "cat", "dog"], 3, ("cat", "dog"))
        tensor([1, 0, 1])
        >>> checked_labels(1, 3, ("cat", "dog"))
        tensor([1, 1, 1])
        >>> checked_labels(torch.tensor([[0.25, 0.75]]), 1, ("cat", "dog"))
        tensor([[0.2500, 0.7500]])
        >>> checked_labels("fox", 3, ("cat", "dog"))
        Traceback (most recent call last):
        aae.errors.DataError: labels: 'fox' is not a category (choices: cat, dog)
    """
    found = labels if isinstance(labels, Tensor) else _numbers(labels, names)
    if found.ndim == 0:
        found = found.expand(count)
    shape, is_float = tuple(found.shape), found.is_floating_point()
    if shape == (count, len(names)) and is_float:
        found = found.float()
        if not ((found >= 0).all() and ((found.sum(1) - 1).abs() <= TOLERANCE).all()):
            raise DataError("labels are not probabilities, from 0 to 1 with the sum 1")
        return found
    if shape != (count,) or (count and (is_float or found.dtype == torch.bool)):
        raise DataError(
            f"labels are {found.dtype} of shape {shape}; {count} names or numbers of categories, "
            f"a single one, or probabilities {needed(count, len(names))} are needed"
        )
    if len(wrong := found[(found < 0) | (found >= len(names))]):
        raise DataError(
            f"labels: {wrong[0]} is not the number of a category; there are {len(names)}: "
            f"{', '.join(names)}"
        )
    return found.long()


def _numbers(labels: object, names: Sequence[str]) -> Tensor:
    """Return a tensor of an array or a list, in which a number replaces the name of a category."""
    try:
        array = np.asarray(labels)
    except ValueError as error:  # lists of different lengths
        raise DataError(f"labels are not an array: {error}") from error
    if array.dtype.kind in "UO":
        flat = array.ravel().tolist()
        for name in flat:
            if name not in names:
                raise DataError(f"labels: {unknown(name, names, 'a category')}")
        array = np.array([names.index(name) for name in flat]).reshape(array.shape)
    return _tensor(array, "labels")


def _tensor(values: object, what: str) -> Tensor:
    """Return a tensor, or an array as a tensor."""
    if isinstance(values, Tensor):
        return values.detach()
    if isinstance(values, np.ndarray):
        try:
            # A copy of what torch cannot share: negative strides, read-only, another byte order.
            native = values.dtype.newbyteorder("=")
            return torch.from_numpy(np.require(values, native, ["C", "W"]))
        except TypeError as error:
            raise DataError(f"{what} are an array of {values.dtype}; numbers are needed") from error
    raise DataError(f"{what} are a {type(values).__name__}; a tensor or an array is needed")
