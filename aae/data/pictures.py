"""Picture files: any mode and size of Pillow's formats, to uint8 images [C, H, W]."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from aae.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
# Modes of Pillow without colour.
GREY = {"1", "L", "LA", "La", "I", "F"}
# The most pixels of a picture: larger ones are damaged, or decompression bombs.
LARGEST = 100_000_000
# Files that are read at once.
CHUNK = 256


def read_picture(path: Path, shape: tuple[int, int, int]) -> Tensor:
    """Read a picture file as the uint8 image [C, H, W] that its viewer would show.

    A picture of another size is cropped in its centre to the proportions of ``shape`` and resized
    with antialiasing. The rotation in its EXIF data is carried out, and transparent parts are
    white.

    Args:
        path: the file.
        shape: channels (1 or 3), height and width.

    Raises:
        DataError: if the file is not a picture that can be read; the message names the reason.
    """
    with _opened(path) as picture:
        return to_image(ImageOps.exif_transpose(picture), shape)


def to_image(picture: Image.Image, shape: tuple[int, int, int]) -> Tensor:
    """Return an open picture as a uint8 image [C, H, W]: see :func:`read_picture`."""
    channels, height, width = shape
    picture = _eight_bits(picture)
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    picture = picture.convert("L" if channels == 1 else "RGB")
    if picture.size != (width, height):
        # Unlike ImageOps.fit, this lets no pixel beside the crop into the edges.
        scale = min(picture.width / width, picture.height / height)
        cropped = max(1, round(scale * width)), max(1, round(scale * height))
        left, top = (picture.width - cropped[0]) // 2, (picture.height - cropped[1]) // 2
        picture = picture.crop((left, top, left + cropped[0], top + cropped[1]))
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    array = np.array(picture).reshape(height, width, channels)
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def picture_shape(path: Path) -> tuple[int, int, int]:
    """Return channels (1 or 3), height and width of a picture file, from its header.

    Raises:
        DataError: if the file has no header of a picture.
    """
    with _opened(path) as picture:
        width, height = picture.size
        # Orientations 5 to 8 of EXIF turn the picture by 90 degrees. Pillow has already turned the
        # size of a TIFF.
        if picture.format != "TIFF" and picture.getexif().get(0x0112) in range(5, 9):
            width, height = height, width
        grey = picture.mode in GREY or picture.mode.startswith("I;16")
        return 1 if grey else 3, height, width


def resized(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return uint8 images [N, C, H, W] in another shape, as :func:`read_picture` does.

    Args:
        images: images with one or three channels.
        shape: channels (1 or 3), height and width.
    """
    if images.shape[1:] == shape:
        return images

    def convert(image: Tensor) -> Tensor:
        array = image.permute(1, 2, 0).numpy()
        return to_image(Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array), shape)

    with ThreadPoolExecutor(joblib.cpu_count()) as pool:
        return torch.stack(list(pool.map(convert, images)))


def in_parallel(
    function: Callable[[Path], Any],
    paths: Sequence[Path],
    on_error: Callable[[Path, DataError], None],
) -> Iterator:
    """Yield the results of a function of many files, in order, computed on all cores.

    Args:
        function: reads one file. Pillow releases Python's lock while it decodes.
        paths: the files.
        on_error: is told of every file for which the function raises a
            :class:`aae.errors.DataError`; the file then has no result.
    """

    def attempt(path: Path) -> tuple[Path, Any, DataError | None]:
        try:
            return path, function(path), None
        except DataError as error:
            return path, None, error

    with warnings.catch_warnings(), ThreadPoolExecutor(joblib.cpu_count()) as pool:
        warnings.simplefilter(
            "ignore"
        )  # Pillow warns of oddities in files that it reads all the same
        # The pool computes results as fast as it can, and all of them might not fit in memory.
        for start in range(0, len(paths), CHUNK):
            for path, result, error in pool.map(attempt, paths[start : start + CHUNK]):
                if error is None:
                    yield result
                else:
                    on_error(path, error)


def pictures_in(folder: Path, on_error: Callable[[Path, DataError], None]) -> list[Path]:
    """Return the paths of all pictures below a folder, in the order of their names.

    Hidden files and folders, and files with other suffixes than :data:`SUFFIXES`, are passed over.
    Links to folders are followed.

    Args:
        folder: the folder.
        on_error: is told of every folder that cannot be read.
    """

    def below(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
        if folder.resolve() in above:  # a link to a folder that it is in
            return
        try:
            paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
            folders = {path for path in paths if path.is_dir()}
        except OSError as error:
            on_error(folder, DataError(error.strerror or str(error)))
            return
        for path in paths:
            if path in folders:
                yield from below(path, above | {folder.resolve()})
            elif path.suffix.lower() in SUFFIXES:
                yield path

    return sorted(below(folder, frozenset()))


def in_batches(items: Iterable) -> Iterator[list]:
    """Yield items in lists of :data:`CHUNK`, the last of which may be shorter."""
    rest = iter(items)
    while batch := list(islice(rest, CHUNK)):
        yield batch


def refusal(errors: Sequence[tuple[Path, str]], most: int = 10) -> str:
    """Return one message for files that cannot be read: the first ten, and how many more."""
    named = "; ".join(f"{path}: {reason}" for path, reason in errors[:most])
    return f"{named}; and {len(errors) - most} more" if len(errors) > most else named


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture, and turn the errors of damaged files, which have many types, into one."""
    try:
        if os.fsencode(path).decode(errors="ignore") != str(path):
            raise DataError("its name is not UTF-8")  # no table could contain it
        if path.exists() and not path.is_file():
            raise DataError("it is not a regular file")  # opening a pipe would wait for a writer
        with Image.open(path) as picture:
            width, height = picture.size
            if width * height > LARGEST:
                raise DataError(f"it has {width} × {height} pixels; {LARGEST} are the most")
            yield picture
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError("it is not a picture") from error
    except OSError as error:
        raise DataError(error.strerror or str(error)) from error
    except Exception as error:
        raise DataError(str(error) or type(error).__name__) from error


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Return a picture with 8 bits a channel. (Pillow's own conversion would clip other values.)"""
    if picture.mode == "F":
        values = np.asarray(picture)
        if not ((values >= 0) & (values <= 1)).all():
            raise DataError("its floats are not all from 0 to 1")
        return Image.fromarray(np.rint(255 * values).astype(np.uint8))
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise DataError("its values have more than 16 bits")
        grey = Image.fromarray(np.rint(values / 257).astype(np.uint8))
        if "transparency" in picture.info:  # the one value that is transparent
            opaque = values != picture.info["transparency"]
            grey.putalpha(Image.fromarray(np.where(opaque, 255, 0).astype(np.uint8)))
        return grey
    return picture
