"""A user's own images: a folder of pictures, or an array in an .npz or .npy file."""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aae.data.images import Part, Source
from aae.data.pictures import (
    CHUNK,
    SUFFIXES,
    in_batches,
    in_parallel,
    picture_shape,
    pictures_in,
    read_picture,
    refusal,
    resized,
)
from aae.errors import DataError
from aae.params import Data
from aae.progress import ShowProgress, silent

# The largest height and width that images may keep if `data.size` is null.
LARGEST_SIDE = 512

Shape = tuple[int, int, int]


def read_folder(folder: Path, data: Data, progress: ShowProgress = silent) -> Source:
    """Read a folder of pictures, either with a subfolder for each class, or flat without labels.

    Hidden files and folders, and files with other suffixes, are passed over.

    Args:
        folder: the folder.
        data: the section ``data`` of params.yaml, with the size and channels of the images.
        progress: shows how many pictures are read.

    Raises:
        DataError: if there are no pictures; if some lie beside the folders of classes, or in a link
            to a folder; if they have several sizes and there is no ``data.size``.
    """
    errors: list[tuple[Path, str]] = []

    def on_error(path: Path, error: DataError) -> None:
        errors.append((path.relative_to(folder), str(error)))

    paths = pictures_in(folder, on_error)
    if errors:
        raise DataError(f"{folder}: not all folders in it can be read: {refusal(errors)}")
    _check_links(folder, paths)
    classes = [path.relative_to(folder).parts[0] for path in paths]
    beside = [path for path in paths if path.parent == folder]
    if not paths:
        suffixes = ", ".join(sorted(SUFFIXES))
        raise DataError(f"data.source: {folder} has no pictures ({suffixes})")
    if 0 < len(beside) < len(paths):
        raise DataError(
            f"data.source: {folder} has both folders of classes and pictures beside them, such as "
            f"{beside[0].name}; either each picture has a class, or none has"
        )
    names = () if beside else tuple(sorted(set(classes)))
    if len(names) < 2:  # the only class says nothing
        names = ()
    numbers = {name: label for label, name in enumerate(names)}
    labels = torch.tensor([numbers[name] for name in classes]) if names else None
    shapes = dict(in_parallel(lambda path: (path, picture_shape(path)), paths, on_error))
    if not shapes:
        raise DataError(f"{folder}: no picture can be read: {refusal(errors)}")

    def unread() -> str:
        return f"{folder}: {len(errors)} of {len(paths)} pictures cannot be read: {refusal(errors)}"

    try:
        shape = _common_shape({path.relative_to(folder): x for path, x in shapes.items()}, data)
    except DataError as error:
        if errors:
            raise DataError(f"{error}; {unread()}") from error
        raise
    readable = list(shapes)

    def read() -> Iterator[Tensor]:
        images = in_parallel(lambda path: read_picture(path, shape), readable, on_error)
        for batch in in_batches(progress(images, len(readable), "pictures")):
            yield torch.stack(batch)
        if errors:
            raise DataError(unread())

    return Source(folder.name, Part(shape, len(paths), labels, read), None, names)


def _check_links(folder: Path, paths: Sequence[Path]) -> None:
    """Refuse links to folders: DVC does not look into them for changes."""
    for parent in sorted({path.parent for path in paths}):
        for path in (parent, *parent.parents):
            if path == folder:
                break
            if path.is_symlink():
                raise DataError(
                    f"data.source: {path} is a link to a folder, in which DVC would notice no "
                    "changes; put the pictures themselves there, or links to each of them "
                    f"(cp -rs {path.resolve()} FOLDER)"
                )


def _common_shape(shapes: dict[Path, Shape], data: Data) -> Shape:
    """Return the channels, height and width of the prepared images."""
    # If some pictures are grey and others in colour, all become pictures in colour.
    channels = data.channels or max(shape[0] for shape in shapes.values())
    if data.size:
        return channels, data.size, data.size
    sizes = {shape[1:]: path for path, shape in shapes.items()}
    if len(sizes) > 1:
        examples = " and ".join(
            f"{width}×{height} ({path})" for (height, width), path in list(sizes.items())[:2]
        )
        raise DataError(
            f"data.size: the pictures have {len(sizes)} sizes, such as {examples}; to resize them, "
            "choose a size in pixels, for example 64"
        )
    height, width = next(iter(sizes))
    return _checked((channels, height, width))


def _checked(shape: Shape) -> Shape:
    channels, height, width = shape
    if max(height, width) > LARGEST_SIDE:
        raise DataError(
            f"data.size: the images have {width}×{height} pixels; to resize them, choose a size of "
            f"at most {LARGEST_SIDE} pixels"
        )
    return channels, height, width


def read_array(path: Path, data: Data, progress: ShowProgress = silent) -> Source:
    """Read an array of images from an .npy file, or from an .npz file that may also have labels.

    Args:
        path: the file. Images are uint8, or floats from 0 to 1, of shape [N, H, W], [N, H, W, C] or
            [N, C, H, W]. An .npz file has them under "images", and numbers or names of classes
            [N] under "labels".
        data: the section ``data`` of params.yaml, with the size and channels of the images.
        progress: shows how many images are read.

    Raises:
        DataError: if the file is damaged, or its arrays are something else. Pickles are refused.
    """
    try:
        images, labels = _load(path)
    except DataError:
        raise
    except Exception as error:  # errors of many types for damaged files
        raise DataError(f"{path}: {error or type(error).__name__}") from error
    channels_first = _channels_first(path, images)
    channels, height, width = channels_first(images[:1]).shape[1:]
    shape = (data.channels or channels, data.size or height, data.size or width)
    names: tuple[str, ...] = ()
    numbers = None
    if labels is not None:
        values, indices = _classes(path, labels)
        # A single class says nothing; check_source names another number of labels than of images.
        if len(values) > 1 or len(indices) != len(images):
            names, numbers = values, torch.from_numpy(indices)

    def read() -> Iterator[Tensor]:
        starts = range(0, len(images), CHUNK)
        for start in progress(starts, len(starts), f"{CHUNK} images each"):
            chunk = _bytes(path, np.array(images[start : start + CHUNK]), start)
            yield resized(torch.from_numpy(channels_first(chunk)), shape)

    return Source(path.stem, Part(_checked(shape), len(images), numbers, read), None, names)


def _load(path: Path) -> tuple[NDArray, NDArray | None]:
    """Return the images, memory-mapped, and the labels of an .npy or .npz file."""
    if path.suffix.lower() == ".npy":
        return np.load(path, mmap_mode="r", allow_pickle=False), None
    with zipfile.ZipFile(path) as archive, TemporaryDirectory() as folder:
        found = {Path(name).stem: name for name in archive.namelist()}
        if "images" not in found:
            raise DataError(
                f"{path}: it has no array 'images', only {', '.join(found) or 'nothing'}"
            )
        # A member of a zip file cannot be memory-mapped. The mapping outlives the file's name.
        images = np.load(
            archive.extract(found["images"], folder), mmap_mode="r", allow_pickle=False
        )
        labels = None
        if "labels" in found:
            labels = np.load(archive.extract(found["labels"], folder), allow_pickle=False)
    return images, labels


def _channels_first(path: Path, images: NDArray) -> Callable[[NDArray], NDArray]:
    """Return a function that turns images of the file into [n, C, H, W]."""
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise DataError(
            f"{path}: images are {images.dtype}; uint8 or floats from 0 to 1 are needed"
        )
    if len(images.shape) < 3 or 0 in images.shape:
        raise DataError(
            f"{path}: images have shape {images.shape}; [N, H, W], [N, H, W, C] or [N, C, H, W] "
            "is needed, with at least one image"
        )
    first, last = images.shape[1] in (1, 3), images.shape[-1] in (1, 3)
    if images.ndim == 3:
        return lambda part: part[:, None]
    if images.ndim == 4 and first != last:
        return (lambda part: part) if first else (lambda part: part.transpose(0, 3, 1, 2).copy())
    both = "both could be the channels" if first else "neither is a number of channels, 1 or 3"
    raise DataError(
        f"{path}: images have shape {images.shape}; [N, H, W, C] or [N, C, H, W] is needed, and of "
        f"the second and the last number {both}"
    )


def _bytes(path: Path, images: NDArray, first: int) -> NDArray[np.uint8]:
    """Return images as uint8."""
    if images.dtype == np.uint8:
        return images
    good = (images >= 0) & (images <= 1)
    if not good.all():
        row = int(np.argmin(good.reshape(len(images), -1).all(1)))
        value = images[row][~good[row]].flat[0]
        raise DataError(
            f"{path}: image {first + row} has the value {value}; floats must be from 0 to 1"
        )
    return np.rint(255 * images).astype(np.uint8)


def _classes(path: Path, labels: NDArray) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the names of the classes in order, and the number of each image's class."""
    whole = labels.dtype.kind == "f" and np.isfinite(labels).all() and not (labels % 1).any()
    if labels.ndim != 1 or not (whole or labels.dtype.kind in "iuUb"):
        raise DataError(
            f"{path}: labels are {labels.dtype} of shape {labels.shape}; whole numbers or texts of "
            "shape [N] are needed"
        )
    if whole:
        labels = labels.astype(np.int64)
    values, indices = np.unique(labels, return_inverse=True)
    return tuple(map(str, values)), indices.astype(np.int64)
