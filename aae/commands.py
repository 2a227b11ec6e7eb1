"""What the commands for a trained model do; :mod:`aae.cli` has their arguments and their help."""

import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from aae.data.pictures import SUFFIXES, in_batches, in_parallel, pictures_in, refusal
from aae.errors import DataError, OutputError
from aae.files import check_writable, naming, replacing, to_csv, write_text
from aae.models import TrainedModel
from aae.progress import show_steps

# Loads the chosen model; the outputs are checked first.
Load: TypeAlias = Callable[[], TrainedModel]
STANDARD = "-"  # the standard input or output
MODEL_SUFFIX = ".safetensors"
# A folder of pictures has them here until the last one is written.
PARTIAL = ".partial"


@dataclass
class Pictures:
    """The picture files that a command was given.

    Attributes:
        files: the files, in the order of the arguments, those of a folder in alphabetical order.
        passed_over: files, and folders below a folder, that cannot be read, with the reasons.
    """

    files: list[Path]
    passed_over: list[tuple[Path, str]] = field(default_factory=list)

    @classmethod
    def find(cls, paths: Sequence[Path], output: str | Path) -> "Pictures":
        """Return the files among paths, and the picture files in the folders among them.

        Raises:
            DataError: if there are none.
            OutputError: if the output would replace one of them.
        """
        found = cls([])
        for path in paths:
            found.files += pictures_in(path, found._pass_over) if path.is_dir() else [path]
        if not found.files:
            suffixes = ", ".join(sorted(SUFFIXES))
            reason = f" ({refusal(found.passed_over)})" if found.passed_over else ""
            raise DataError(
                f"no pictures in {', '.join(map(str, paths))}; they end in {suffixes}{reason}"
            )
        found.files = list(dict.fromkeys(found.files))
        _check_not_read(Path(output), found.files)
        return found

    def read(self, model: TrainedModel, title: str) -> Iterator[tuple[list[Path], Tensor]]:
        """Yield files and their images [n, C, H, W] in batches, and show the progress.

        Raises:
            DataError: at the end, if no file could be read.
        """
        before = len(self.passed_over)
        images = in_parallel(lambda path: (path, model.read(path)), self.files, self._pass_over)
        for batch in _batches(images, len(self.files), title):
            yield [path for path, _ in batch], torch.stack([image for _, image in batch])
        if len(self.passed_over) - before == len(self.files):
            raise DataError(f"no picture can be read: {refusal(self.passed_over)}")

    def _pass_over(self, path: Path, error: DataError) -> None:
        self.passed_over.append((path, str(error)))

    def exit(self) -> None:
        """Name the files that were passed over, and exit with 1 if there are any."""
        if self.passed_over:
            sys.exit("\n".join(f"error: {path}: {reason}" for path, reason in self.passed_over))


def encode(load: Load, paths: Sequence[Path], output: str, kind: str | None) -> None:
    """Write the codes of pictures: see `aae encode`."""
    as_array = (kind or Path(output).suffix.lower().removeprefix(".")) == "npy"
    if as_array and output == STANDARD:
        raise OutputError("an array cannot be written to the standard output; name a file")
    _check_table(output)
    pictures, trained = Pictures.find(paths, output), load()
    files, codes, classes = [], [], []
    for names, images in pictures.read(trained, "encode"):
        files += names
        codes.append(trained.encode(images))
        if trained.architecture.categories.from_encoder:
            classes += _likeliest(trained, trained.classify(images))
    values = torch.cat(codes).numpy()
    if as_array:
        with replacing(Path(output)) as temporary, temporary.open("wb") as file:
            np.save(file, values)
    else:
        table = pd.DataFrame(values, columns=_columns(values.shape[1]))
        if classes:
            table.insert(0, "class", classes)
        table.insert(0, "file", [str(path) for path in files])
        _write_table(output, table)
    pictures.exit()


def classify(load: Load, paths: Sequence[Path], output: str) -> None:
    """Write the classes of pictures: see `aae classify`."""
    _check_table(output)
    pictures, trained = Pictures.find(paths, output), load()
    trained.classify(_no_pictures(trained))  # refuses a model that finds no classes
    tables = []
    for files, images in pictures.read(trained, "classify"):
        found = trained.classify(images)
        first = {
            "file": [str(path) for path in files],
            "class": _likeliest(trained, found),
            "probability": found.amax(1).numpy(),
        }
        # A class may be called "file", so these are two tables side by side.
        each = pd.DataFrame(found.numpy(), columns=trained.class_names)
        tables.append(pd.concat([pd.DataFrame(first), each], axis=1))
    _write_table(output, pd.concat(tables))
    pictures.exit()


def decode(load: Load, source: str, label: str | None, output: Path) -> None:
    """Write the pictures of codes: see `aae decode`."""
    _check_folder(output)
    trained = load()
    codes, texts = _read_codes(source, trained.latent_dim)
    takes_classes = trained.architecture.categories.to_decoder
    classes = texts.get("class") if takes_classes and label is None else None
    if classes is None:
        with _naming_label():
            trained.decode(codes[:0], label)
    with _new_folder(output) as folder:
        names = _picture_names(texts.get("file", [""] * len(codes)))
        for batch in _batches(range(len(codes)), len(codes), "decode"):
            labels = [classes[i] for i in batch] if classes else label
            images = trained.decode(codes[batch], labels)
            _write_pictures(folder, [names[i] for i in batch], images)


def sample(load: Load, n: int, seed: int, label: str | None, grid: bool, output: Path) -> None:
    """Write pictures of prior samples: see `aae sample`."""
    _check_pictures(output, grid)
    trained = load()
    if grid and label is None and trained.class_names:
        columns = math.ceil(n / len(trained.class_names))
        rows = [trained.sample(columns, seed, name) for name in trained.class_names]
        _write_picture(output, _grid(torch.cat(rows), columns))
        return
    with _naming_label():
        images = trained.sample(n, seed, label)
    if grid:
        _write_picture(output, _grid(images, math.ceil(math.sqrt(n))))
        return
    with _new_folder(output) as folder:
        names = _picture_names([""] * n)
        for batch in _batches(range(n), n, "write"):
            _write_pictures(folder, [names[i] for i in batch], images[batch])


def reconstruct(
    load: Load, paths: Sequence[Path], label: str | None, grid: bool, output: Path
) -> None:
    """Write the reconstructions of pictures: see `aae reconstruct`."""
    _check_pictures(output, grid)
    pictures, trained = Pictures.find(paths, output), load()
    with _naming_label():
        trained.reconstruct(_no_pictures(trained), label)
    if grid:
        pairs = [
            torch.cat([images / 255, trained.reconstruct(images, label)], dim=3)
            for _, images in pictures.read(trained, "reconstruct")
        ]
        cells = torch.cat(pairs)
        _write_picture(output, _grid(cells, math.ceil(math.sqrt(len(cells) / 2))))
    else:
        names = dict(zip(pictures.files, _picture_names(pictures.files), strict=True))
        with _new_folder(output) as folder:
            for files, images in pictures.read(trained, "reconstruct"):
                written = [names[file] for file in files]
                _write_pictures(folder, written, trained.reconstruct(images, label))
    pictures.exit()


def score(load: Load, paths: Sequence[Path], label: str | None, output: str) -> None:
    """Write how unusual pictures are: see `aae score`."""
    _check_table(output)
    pictures, trained = Pictures.find(paths, output), load()
    with _naming_label():
        trained.score(_no_pictures(trained), label)
    tables = []
    for files, images in pictures.read(trained, "score"):
        scores = trained.score(images, label)._asdict()
        found = {name: values.numpy() for name, values in scores.items()}
        tables.append(pd.DataFrame({"file": [str(path) for path in files], **found}))
    table = pd.concat(tables).sort_values("reconstruction_error", ascending=False, kind="stable")
    _write_table(output, table)
    pictures.exit()


def interpolate(load: Load, a: Path, b: Path, steps: int, label: str | None, output: Path) -> None:
    """Write the pictures on the path between two pictures: see `aae interpolate`."""
    _check_file(str(output))
    _check_not_read(output, [a, b])
    trained = load()
    with _naming_label():
        trained.reconstruct(_no_pictures(trained), label)
    _write_picture(output, _grid(trained.interpolate(a, b, steps, label)[0], steps))


def _check_pictures(output: Path, grid: bool) -> None:
    """Check that one picture of all, or else a new folder of pictures, can be written."""
    if not grid and output.suffix.lower() in SUFFIXES:
        raise OutputError(f"{output} would be a folder; one picture of all needs --grid")
    _check_file(str(output)) if grid else _check_folder(output)


@contextmanager
def _naming_label() -> Iterator[None]:
    """Name the option in an error about it.

    The commands try it before they read pictures, on none of them, so that no time is lost.
    """
    try:
        yield
    except DataError as error:
        raise DataError(f"--label: {str(error).removeprefix('labels: ')}") from error


def _no_pictures(trained: TrainedModel) -> Tensor:
    return torch.empty(0, *trained.image_shape, dtype=torch.uint8)


def _batches(items: Iterable, total: int, title: str) -> Iterator[list]:
    """Yield items in batches, and show the progress."""
    # On the standard error, because the standard output may be a table.
    return in_batches(show_steps(items, total, title, Console(stderr=True, highlight=False)))


def _likeliest(trained: TrainedModel, probabilities: Tensor) -> list[str]:
    """Return the name of the likeliest class for each row of probabilities [N, K]."""
    return [trained.class_names[k] for k in probabilities.argmax(1)]


def _columns(dimensions: int) -> list[str]:
    return [f"z{i + 1}" for i in range(dimensions)]


def _check_file(output: str) -> None:
    if output == STANDARD:
        return
    if Path(output).suffix.lower() == MODEL_SUFFIX:
        raise OutputError(f"{output} has the suffix of a model; name another file")
    check_writable(Path(output))


def _check_table(output: str) -> None:
    """Check that a table or an array can be written, and that `-o new/*.png` replaces nothing."""
    if Path(output).suffix.lower() in SUFFIXES:
        raise OutputError(f"{output} has the suffix of a picture; name another file")
    _check_file(output)


def _check_not_read(output: Path, files: Sequence[Path]) -> None:
    """Check that the output is none of the pictures to read."""
    if output.exists() and any(file.exists() and output.samefile(file) for file in files):
        raise OutputError(f"{output} is one of the pictures to read; name another file")


def _check_folder(output: Path) -> None:
    """Check that a new folder can be written; one with files is somebody's work."""
    try:
        there = {path.name for path in output.iterdir()} if output.is_dir() else set()
        if there - {PARTIAL} or (output.exists() and not output.is_dir()):
            raise OutputError(
                f"{output} exists and is not an empty folder; name another one or remove it"
            )
    except OSError as error:
        raise OutputError(f"{output} cannot be read: {error.strerror}") from error
    check_writable(output / "0.png" if output.exists() else output)


@contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """Yield a folder whose content moves into ``output`` when the block ends without an error.

    An empty ``output`` is kept: it may be the folder that a shell is in, or a mounted one.
    """
    is_new, partial = not output.exists(), output / PARTIAL
    try:
        with naming(output):
            shutil.rmtree(partial, ignore_errors=True)  # what a killed command has left
            partial.mkdir(parents=True)
            yield partial
            for path in partial.iterdir():
                path.rename(output / path.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # if it is not empty, all is well
                output.rmdir()


def _write_table(output: str, table: pd.DataFrame) -> None:
    if output == STANDARD:
        sys.stdout.write(to_csv(table))
    else:
        write_text(Path(output), to_csv(table))


def _read_codes(source: str, dimensions: int) -> tuple[Tensor, dict[str, list[str]]]:
    """Return the codes [N, d] in a file, and its columns `file` and `class` if it has them.

    Raises:
        DataError: if it cannot be read or lacks a dimension.
    """
    try:
        if Path(source).suffix.lower() == ".npy":
            array = np.load(source, allow_pickle=False).astype(np.float32)
            if array.ndim != 2 or array.shape[1] != dimensions or not len(array):
                raise DataError(
                    f"{source}: codes of shape {array.shape}; (N, {dimensions}) is needed, "
                    "with at least one code"
                )
            return torch.from_numpy(array), {}
        text = sys.stdin if source == STANDARD else source
        table = pd.read_csv(text, dtype={"file": str, "class": str}, keep_default_na=False)
        missing = [name for name in _columns(dimensions) if name not in table]
        if missing:
            raise DataError(
                f"{source}: its columns are {', '.join(map(str, table))}; "
                f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
            )
        codes = torch.from_numpy(table[_columns(dimensions)].to_numpy(np.float32))
    except OSError as error:
        raise DataError(f"{source}: {error.strerror or error}") from error
    except (ValueError, TypeError, EOFError, AttributeError) as error:  # of pandas and numpy
        raise DataError(f"{source}: {error}") from error
    if not len(codes):
        raise DataError(f"{source}: it has no codes")
    texts = {name: list(table[name]) for name in ("file", "class") if name in table}
    if any("\0" in file for file in texts.get("file", [])):
        raise DataError(f"{source}: a name in its column file has the character NUL")
    return codes, texts


def _picture_names(files: Sequence[str | Path]) -> list[Path]:
    """Return a relative path of a PNG for each file, which keeps the folders below a common one.

    Files without a name are numbered, and a number is added to a name that would be there twice.
    """
    # `resolve` would replace a link to a picture, which has a name of its own.
    absolute = [
        Path(os.path.normpath(Path(file).absolute())) if Path(file).name else None for file in files
    ]
    common = os.path.commonpath([path.parent for path in absolute if path] or [Path("/")])
    taken: set[Path] = set()
    names = []
    for i, path in enumerate(absolute):
        name = path.relative_to(common).with_suffix(".png") if path else Path(f"{i:06}.png")
        first, number = name, 1
        while name in taken:
            number += 1
            name = first.with_stem(f"{first.stem}-{number}")
        taken.add(name)
        names.append(name)
    return names


def _picture(image: Tensor) -> Image.Image:
    """Return an image [C, H, W] with values from 0 to 1 as a picture."""
    array = (image * 255).round().byte().permute(1, 2, 0).numpy()
    if array.shape[2] not in (1, 3):
        raise DataError(f"the model's images have {array.shape[2]} channels; pictures have 1 or 3")
    return Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array)


def _write_pictures(folder: Path, names: Sequence[Path], images: Tensor) -> None:
    for name, image in zip(names, images, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _picture(image).save(folder / name)


def _write_picture(output: Path, image: Tensor) -> None:
    """Write a picture in the format that its suffix names; PNG if it names none."""
    suffix = output.suffix.lower()
    kind = Image.registered_extensions()[suffix] if suffix in SUFFIXES else "PNG"
    with replacing(output) as temporary:
        _picture(image).save(temporary, format=kind)


def _grid(images: Tensor, columns: int) -> Tensor:
    """Return images [N, C, H, W] in rows, with a grey line of one pixel between them [C, h, w]."""
    count, channels, height, width = images.shape
    rows = math.ceil(count / columns)
    grid = torch.full((channels, rows * (height + 1) - 1, columns * (width + 1) - 1), 0.5)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        grid[:, top : top + height, left : left + width] = image
    return grid
