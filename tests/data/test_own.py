"""A user's own images: folders of pictures, and arrays."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import data_settings

from aae.data import (
    check_source,
    in_memory,
    read_prepared,
    read_source,
    split_source,
    write_prepared,
)
from aae.data.images import Part
from aae.data.pictures import picture_shape, pictures_in, read_picture
from aae.errors import AAEError, DataError, ParameterError

RED, BLACK, WHITE = [255, 0, 0], [0, 0, 0], [255, 255, 255]
# The grey value of red: ITU-R 601, 0.299 of 255.
RED_AS_GREY = 76


def images_of(part: Part) -> torch.Tensor:
    return torch.cat(list(part.read()))


def picture(height: int = 30, width: int = 20) -> Image.Image:
    """A black picture, whose upper third is red."""
    array = np.zeros((height, width, 3), np.uint8)
    array[: height // 3] = RED
    return Image.fromarray(array)


def ramp(dtype: type, scale: float) -> np.ndarray:
    return (np.arange(256).reshape(16, 16) * scale).astype(dtype)


def transparent() -> Image.Image:
    image = picture().convert("RGBA")
    alpha = np.full((30, 20), 255, np.uint8)
    alpha[20:] = 0
    image.putalpha(Image.fromarray(alpha))
    return image


def rotated(path: Path) -> None:
    """A picture that lies on its side in the file, with a note that its viewer should turn it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exact = {"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {"lossless": True}
    picture().transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, **exact)


def transparent_grey(path: Path) -> None:
    """A black picture of 16 bits, whose lower third has the one value that is transparent."""
    array = np.zeros((30, 20), np.uint16)
    array[20:] = 40_000
    Image.fromarray(array).save(path, transparency=40_000)


# Writes a file, and the colours [top, middle, bottom] that a viewer shows.
PICTURES = {
    "rgb.png": (lambda path: picture().save(path), [RED, BLACK, BLACK]),
    "rgb.JPG": (lambda path: picture().save(path, "JPEG", quality=100, subsampling=0),
                [RED, BLACK, BLACK]),
    "rgb.webp": (lambda path: picture().save(path, lossless=True), [RED, BLACK, BLACK]),
    "rgb.TIFF": (lambda path: picture().save(path, "TIFF"), [RED, BLACK, BLACK]),
    "rgb.bmp": (lambda path: picture().save(path), [RED, BLACK, BLACK]),
    "palette.png": (lambda path: picture().quantize(4).save(path), [RED, BLACK, BLACK]),
    "cmyk.jpg": (lambda path: picture().convert("CMYK").save(path, quality=100, subsampling=0),
                 [RED, BLACK, BLACK]),
    "cmyk.tif": (lambda path: picture().convert("CMYK").save(path), [RED, BLACK, BLACK]),
    "rgba.png": (lambda path: transparent().save(path), [RED, BLACK, WHITE]),
    "rgba.webp": (lambda path: transparent().save(path, lossless=True), [RED, BLACK, WHITE]),
    "turned.jpg": (rotated, [RED, BLACK, BLACK]),
    "turned.png": (rotated, [RED, BLACK, BLACK]),
    "turned.webp": (rotated, [RED, BLACK, BLACK]),
    "turned.tif": (rotated, [RED, BLACK, BLACK]),
    "transparent16.png": (transparent_grey, [BLACK, BLACK, WHITE]),
    "grey.png": (lambda path: picture().convert("L").save(path),
                 [[RED_AS_GREY] * 3, BLACK, BLACK]),
    "bits.png": (lambda path: picture().convert("1", dither=Image.Dither.NONE).save(path),
                 [BLACK, BLACK, BLACK]),
    "übung 日本.png": (lambda path: picture().save(path), [RED, BLACK, BLACK]),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_every_kind_of_picture_looks_as_in_a_viewer(tmp_path, name):
    write, expected = PICTURES[name]
    write(tmp_path / name)
    assert picture_shape(tmp_path / name)[1:] == (30, 20)
    image = read_picture(tmp_path / name, (3, 30, 20))
    assert image.dtype == torch.uint8
    found = image[:, [4, 15, 25], 10].T.int()
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.int), atol=3, rtol=0)
    grey = read_picture(tmp_path / name, (1, 30, 20))[0, [4, 15, 25], 10].float()
    weights = torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(grey, torch.tensor(expected).float() @ weights, atol=3, rtol=0)


@pytest.mark.parametrize(
    ("name", "dtype", "scale"), [("a.png", np.uint16, 257), ("a.tif", np.uint16, 257),
                                 ("a.tiff", np.float32, 1 / 255), ("b.tif", np.int32, 257)],
)  # fmt: skip
def test_more_bits_keep_their_proportions(tmp_path, name, dtype, scale):
    Image.fromarray(ramp(dtype, scale)).save(tmp_path / name)
    found = read_picture(tmp_path / name, (1, 16, 16)).flatten()
    torch.testing.assert_close(found, torch.arange(256).byte(), atol=1, rtol=0)


def test_a_picture_of_another_size_is_cropped_in_the_centre_and_resized_smoothly(tmp_path):
    # Columns of one pixel, black and white in turns, between two red margins.
    stripes = np.zeros((40, 120, 3), np.uint8)
    stripes[:, ::2] = 255
    stripes[:, :40] = stripes[:, 80:] = RED
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    image = read_picture(tmp_path / "stripes.png", (3, 10, 10)).float()
    # Without antialiasing the stripes would stay black or white; the margins must not shine in.
    torch.testing.assert_close(image, torch.full((3, 10, 10), 127.5), atol=25, rtol=0)


@pytest.fixture
def pets(tmp_path) -> Path:
    """Two classes with 12 pictures each, all of one size and with different grey values."""
    folder = tmp_path / "Haustiere"
    for number, name in enumerate(["cat", "Hündin"]):
        (folder / name / "more").mkdir(parents=True)
        for k in range(12):
            place = folder / name / ("more" if k > 8 else "") / f"{k:02}.png"
            Image.new("RGB", (10, 12), (100 * number, k, 7)).save(place)
    return folder


def test_a_folder_for_each_class_gives_labels(pets):
    (pets / "cat" / ".hidden.png").write_text("no picture")
    (pets / ".cache").mkdir()
    (pets / ".cache" / "thumb.png").write_text("no picture")
    (pets / "notes.txt").write_text("no picture")
    source = read_source(data_settings(str(pets)))
    check_source(source)
    assert (source.name, source.class_names) == ("Haustiere", ("Hündin", "cat"))
    assert source.train.shape == (3, 12, 10)
    images = images_of(source.train)
    assert torch.equal(images[:, 0, 0, 0], 100 * (1 - source.train.labels).byte())
    assert sorted(images[source.train.labels == 1, 1, 0, 0].tolist()) == list(range(12))


def test_pictures_without_folders_have_no_labels(pets, tmp_path, monkeypatch):
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (pets / "cat").rglob("*.png"):
        shutil.copy(path, flat)
    data = data_settings(str(flat), test_share=0.3, validation_share=0.3)
    source = read_source(data)
    check_source(source)
    assert (source.train.labels, source.class_names) == (None, ())
    splits = split_source(source, data, 0)
    assert [len(split) for split in splits.values()] == [6, 2, 4]
    parts = in_memory(splits)
    assert {part.labels for part in parts.values()} == {None}
    numbers = torch.cat([part.images for part in parts.values()])[:, 1, 0, 0].tolist()
    assert sorted(numbers) == list(range(12)), "each picture is in one split"
    monkeypatch.chdir(tmp_path)
    write_prepared(splits, source)
    assert not list(Path("data/prepared").glob("*labels*"))
    assert read_prepared("train").labels is None
    assert torch.equal(read_prepared("test").images, parts["test"].images)


def test_links_to_folders_are_followed_but_not_for_ever(pets, tmp_path):
    (pets / "cat").rename(tmp_path / "elsewhere")
    (pets / "cat").symlink_to(tmp_path / "elsewhere")
    (pets / "cat" / "pets").symlink_to(pets)
    found = [path.relative_to(pets).parts[0] for path in pictures_in(pets, lambda *_: None)]
    assert found == 12 * ["Hündin"] + 12 * ["cat"]


@pytest.mark.parametrize("place", ["cat", "cat/more"])
def test_a_link_to_a_folder_is_refused_since_dvc_would_see_no_changes_in_it(pets, tmp_path, place):
    (pets / place).rename(tmp_path / "elsewhere")
    (pets / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=rf"data\.source: {pets / place} is a link to a folder"):
        read_source(data_settings(str(pets)))
    (pets / place).unlink()
    shutil.copytree(tmp_path / "elsewhere", pets / place, copy_function=os.symlink)
    (tmp_path / "link").symlink_to(pets)  # DVC follows the source itself, and links to pictures
    source = read_source(data_settings(str(tmp_path / "link")))
    assert source.train.labels.bincount().tolist() == [12, 12]


def test_a_single_class_is_no_class(pets):
    shutil.rmtree(pets / "cat")
    source = read_source(data_settings(str(pets)))
    assert (source.train.labels, source.class_names) == (None, ())


def test_size_and_channels_are_read_off_or_chosen(pets):
    Image.new("L", (10, 12)).save(pets / "cat" / "grey.png")
    assert read_source(data_settings(str(pets))).train.shape == (3, 12, 10)
    assert read_source(data_settings(str(pets), channels=1)).train.shape == (1, 12, 10)
    source = read_source(data_settings(str(pets), size=8))
    assert images_of(source.train).shape == (25, 3, 8, 8)
    shutil.rmtree(pets / "Hündin")
    for path in pets.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    assert read_source(data_settings(str(pets))).train.shape == (1, 12, 10)
    Image.new("L", (11, 12)).save(pets / "cat" / "other.png")
    message = (
        r"data\.size: the pictures have 2 sizes, such as .*11×12 \(cat/other\.png\).* for exam"
    )
    with pytest.raises(DataError, match=message):
        read_source(data_settings(str(pets)))


def test_all_files_that_cannot_be_read_are_named_in_one_error(pets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for k in range(11):
        (pets / "cat" / f"text {k:02}.png").write_text("I am no picture")
    whole = (pets / "Hündin" / "00.png").read_bytes()
    Image.effect_noise((10, 12), 50).convert("RGB").save(pets / "Hündin" / "cut.jpg")
    cut = pets / "Hündin" / "cut.jpg"
    cut.write_bytes(cut.read_bytes()[:-100])
    data = data_settings(str(pets), validation_share=0.3)
    source = read_source(data)
    message = r"12 of 36 pictures cannot be read: .*and 2 more$"
    with pytest.raises(DataError, match=message) as error:
        write_prepared(split_source(source, data, 0), source)
    assert str(error.value).count("text ") == 10
    assert not Path("data/prepared").exists()
    Image.new("L", (11, 12)).save(pets / "cat" / "other.png")
    with pytest.raises(DataError, match=r"2 sizes, .*; .*11 of 37 pictures cannot be read: .*text"):
        read_source(data)
    (pets / "cat" / "other.png").unlink()
    for path in pets.rglob("text*"):
        path.write_bytes(whole)
    source = read_source(data)
    with pytest.raises(DataError, match=r"1 of 36 pictures cannot be read: Hündin/cut\.jpg"):
        write_prepared(split_source(source, data, 0), source)
    cut.write_bytes(whole)
    source = read_source(data)
    write_prepared(split_source(source, data, 0), source)
    assert read_prepared("train").labels.bincount().tolist() == [7, 13]


def test_a_pipe_among_the_pictures_is_refused(pets):
    pipe = pets / "cat" / "pipe.png"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match=r"pipe\.png: it is not a regular file"):
        images_of(read_source(data_settings(str(pets))).train)


def saved(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)
    return path


BYTES = np.random.default_rng(0).integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "NHW"])
@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_arrays_of_every_layout_are_the_same_images(tmp_path, dtype, layout, suffix):
    array = BYTES if dtype == np.uint8 else (BYTES / 255).astype(dtype)
    expected = BYTES.transpose(0, 3, 1, 2)
    if layout == "NCHW":
        array = array.transpose(0, 3, 1, 2)
    if layout == "NHW":
        array, expected = array[..., 0], expected[:, :1]
    path = tmp_path / f"my images{suffix}"
    if suffix == ".npz":
        np.savez_compressed(path, images=array, labels=[3, 1, 3, 1, 1, 3])
    else:
        np.save(path, array)
    source = read_source(data_settings(str(path)))
    check_source(source)
    assert source.name == "my images"
    assert np.array_equal(images_of(source.train).numpy(), expected)
    if suffix == ".npz":
        assert source.class_names == ("1", "3")
        assert source.train.labels.tolist() == [1, 0, 1, 0, 0, 1]


def test_whole_numbers_of_any_type_are_the_same_labels(tmp_path):
    for dtype in (np.int8, np.uint64, np.float32):
        path = saved(tmp_path / "a.npz", images=BYTES, labels=np.array([10, 9, 9, 10, 9, 9], dtype))
        source = read_source(data_settings(str(path)))
        assert source.class_names == ("9", "10")
        assert source.train.labels.tolist() == [1, 0, 0, 1, 0, 0]


def test_labels_may_be_names(tmp_path):
    path = saved(tmp_path / "a.npz", images=BYTES, labels=np.array(["b", "ä", "b", "ä", "b", "ä"]))
    source = read_source(data_settings(str(path), size=8, channels=1))
    assert source.class_names == ("b", "ä")
    assert images_of(source.train).shape == (6, 1, 8, 8)


OBJECTS = np.array([{"a": 1}, None, 3], dtype=object)
# What is wrong, the arrays, and what the error says.
WRONG_ARRAYS = {
    "whole numbers": ({"images": BYTES.astype(int)}, "images are int64; uint8 or floats"),
    "complex": ({"images": BYTES * 1j}, "images are complex128"),
    "texts": ({"images": np.array(["a"])}, "images are <U1"),
    "two dimensions": ({"images": BYTES[0, :, :, 0]}, "images have shape (5, 7)"),
    "five dimensions": ({"images": BYTES[None]}, "images have shape (1, 6, 5, 7, 3)"),
    "none": ({"images": BYTES[:0]}, "images have shape (0, 5, 7, 3)"),
    "four channels": ({"images": np.zeros((2, 5, 7, 4), np.uint8)}, "neither is a number"),
    "either could be": ({"images": np.zeros((2, 3, 7, 3), np.uint8)}, "both could be the channels"),
    "negative": ({"images": BYTES / 255 - 1}, "image 0 has the value -"),
    "up to 255": ({"images": BYTES.astype(float)}, "floats must be from 0 to 1"),
    "not a number": ({"images": np.where(BYTES > 9, np.nan, 0.5)}, "the value nan"),
    "no images": ({"pictures": BYTES}, "it has no array 'images', only pictures"),
    "objects": ({"images": OBJECTS}, "bject"),
    "objects as labels": ({"images": BYTES, "labels": OBJECTS}, "bject"),
    "few labels": ({"images": BYTES, "labels": [0, 1, 0]}, "6 training images, but 3 labels"),
    "few equal labels": ({"images": BYTES, "labels": [0, 0, 0]}, "6 training images, but 3 label"),
    "no number as a label": ({"images": BYTES, "labels": [0, 1, 0, 1, 0, np.nan]}, "labels are fl"),
    "infinity as a label": ({"images": BYTES, "labels": [0, 1, 0, 1, 0, np.inf]}, "labels are fl"),
    "labels in rows": ({"images": BYTES, "labels": np.eye(6)}, "labels are float64 of shape"),
    "fractions as labels": ({"images": BYTES, "labels": np.arange(6) / 2}, "labels are float64"),
    "too large": ({"images": np.zeros((2, 3, 4, 600), np.uint8)}, "the images have 600×4"),
    "many classes": (
        {"images": np.zeros((300, 3, 4), np.uint8), "labels": np.arange(300)}, "300 classes; 256"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG_ARRAYS)
def test_wrong_arrays_are_refused(tmp_path, what):
    arrays, message = WRONG_ARRAYS[what]
    with pytest.raises(DataError, match=re.escape(message)) as error:
        read_and_split(saved(tmp_path / "a.npz", **arrays))
    assert "\n" not in str(error.value)


def read_and_split(path: Path) -> None:
    data = data_settings(str(path), test_share=0.4, validation_share=0.5)
    source = read_source(data)
    check_source(source)
    in_memory(split_source(source, data, 0))


# Damages a whole file.
DAMAGES = {
    "empty": lambda content: content[:0],
    "half": lambda content: content[: len(content) // 2],
    "one byte": lambda content: content[:1],
    "without its end": lambda content: content[:-30],
    "text": lambda content: b"I am no such file"[: len(content)],
    "zeros": lambda content: bytes(len(content)),
    "zeros in it": lambda content: content[:40] + bytes(60) + content[100:],
    "a web page": lambda content: b"<html><body>404</body></html>"[: len(content)],
    "doubled header": lambda content: content[:60] + content,
    "shifted": lambda content: content[1:],
}
SUFFIXES = [".png", ".jpg", ".webp", ".tif", ".bmp", ".npz", ".npy"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files_are_refused_or_read_as_images(tmp_path, suffix, damage):
    """Some damage cannot be seen: uncompressed pixels may have any value."""
    path = tmp_path / "images" / f"damaged{suffix}"
    path.parent.mkdir()
    if suffix == ".npz":
        np.savez(path, images=BYTES)
    elif suffix == ".npy":
        np.save(path, BYTES)
    else:
        Image.fromarray(
            np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        ).save(path)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    source = path if suffix.startswith(".np") else path.parent
    try:
        source = read_source(data_settings(str(source)))
        images = images_of(source.train)
    except DataError as error:
        message = str(error)
        assert "\n" not in message
        assert str(tmp_path) in message
    else:
        assert images.shape == (len(source.train), *source.train.shape)
        assert damage in ("zeros in it", "without its end", "doubled header", "shifted")


def test_a_picture_of_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (1_000_000, 200)).save(tmp_path / "wide.png")
    with pytest.raises(DataError, match=r"wide\.png: .*limit|1000000 × 200"):
        read_source(data_settings(str(tmp_path), size=32))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), r"has no pictures \(\.bmp"),
        (lambda path: path.write_text("text"), "is neither a folder of pictures nor"),
        (Path.exists, r"is not a data set, nor a path that exists"),
    ],
)
def test_other_paths_are_refused(tmp_path, make, message):
    make(tmp_path / "images")
    with pytest.raises(AAEError, match=message):
        read_source(data_settings(str(tmp_path / "images")))


def test_pictures_beside_folders_of_classes_are_refused(pets):
    Image.new("RGB", (10, 12)).save(pets / "stray.png")
    with pytest.raises(
        DataError, match=r"both folders of classes and pictures beside .* stray\.png"
    ):
        read_source(data_settings(str(pets)))


def test_the_nearest_name_is_suggested():
    with pytest.raises(
        ParameterError, match=r"data\.source: 'mnst' is not .* did you mean 'mnist'"
    ):
        read_source(data_settings("mnst"))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("labelled", [False, True])
def test_too_few_images_are_refused(tmp_path, count, labelled):
    labels = {"labels": np.repeat(np.arange(2), count)} if labelled else {}
    images = np.zeros((2 * count if labelled else count, 8, 8), np.uint8)
    with pytest.raises(DataError, match=r"both parts need at least two"):
        read_and_split(saved(tmp_path / "few.npz", images=images, **labels))
