import functools
import gzip
import hashlib
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from projects import run
from support import NOWHERE, ROOT, data_settings, write_idx, write_params

from aae.data import (
    Images,
    check_source,
    in_memory,
    prepared_meta,
    published,
    read_prepared,
    read_source,
    split_source,
    write_prepared,
)
from aae.data.images import Part
from aae.errors import DataError, ParameterError


def images_of(part: Part) -> torch.Tensor:
    """All images of a part of a source."""
    return torch.cat(list(part.read()))


def run_stage(folder: Path, changes: dict, check: bool = True, **environment: str):
    """Run the stage prepare_data in a folder, with changed parameters."""
    write_params(folder / "params.yaml", changes)
    shutil.copy(ROOT / "dvc.yaml", folder)
    command = ["python", str(ROOT / "stages" / "prepare_data.py")]
    return run(command, folder, check=check, **environment)


def test_mnist_5k_is_five_thousand_real_digits():
    source = read_source(data_settings("mnist-5k"))
    check_source(source)
    images = images_of(source.train)
    assert images.shape == (5000, 1, 28, 28)
    assert images.dtype == torch.uint8
    assert torch.bincount(source.train.labels.int()).tolist() == [500] * 10
    # A one has less ink than a zero: the labels must match the images.
    ink = images.float().mean((1, 2, 3))
    assert ink[source.train.labels == 1].mean() < 0.5 * ink[source.train.labels == 0].mean()


def test_splits_are_disjoint_whole_and_stratified(make_params):
    source = read_source(data_settings("mnist-5k"))
    params = make_params({})
    splits = in_memory(split_source(source, params.data, seed=0))
    assert {name: len(part) for name, part in splits.items()} == {
        "train": 3600, "validation": 400, "test": 1000
    }  # fmt: skip
    for part in splits.values():
        assert len(torch.bincount(part.labels.int()).unique()) == 1
    everything = torch.cat([part.images for part in splits.values()])

    def rows(images: torch.Tensor) -> list[bytes]:
        return sorted(image.numpy().tobytes() for image in images)

    assert rows(everything) == rows(images_of(source.train))


def test_the_seed_determines_the_splits(make_params):
    source = read_source(data_settings("mnist-5k"))
    settings = make_params({}).data
    first, again, other = (split_source(source, settings, seed)["test"] for seed in (0, 0, 1))
    assert torch.equal(first.rows, again.rows)
    assert not torch.equal(first.rows, other.rows)


def test_a_source_with_test_images_keeps_them(make_params, mnist_root):
    source = read_source(data_settings("mnist", mnist_root))
    check_source(source)
    splits = in_memory(split_source(source, make_params({}).data, seed=0))
    assert [len(part) for part in splits.values()] == [180, 20, 50]
    assert torch.equal(splits["test"].images, images_of(source.test))
    assert torch.bincount(splits["validation"].labels.int()).tolist() == [2] * 10


def test_fashion_mnist_is_read_from_a_folder_of_its_own(mnist_root):
    (mnist_root / "MNIST").rename(mnist_root / "FashionMNIST")
    source = read_source(data_settings("fashion-mnist", mnist_root))
    check_source(source)
    assert source.class_names[0] == "T-shirt/top"
    assert (len(source.train), len(source.test)) == (200, 50)


def test_a_class_that_is_too_small_to_be_split_is_named(make_params, mnist_root):
    (mnist_root / "MNIST").rename(mnist_root / "FashionMNIST")
    source = read_source(data_settings("fashion-mnist", mnist_root))
    settings = make_params({"data.validation_share": 0.01}).data
    message = r"data.validation_share: 0.01 of the 20 images of class T-shirt/top is 0"
    with pytest.raises(DataError, match=message):
        split_source(source, settings, seed=0)


@pytest.fixture
def prepared(tmp_path, monkeypatch, make_params, mnist_root) -> dict[str, Images]:
    monkeypatch.chdir(tmp_path)
    source = read_source(data_settings("mnist", mnist_root))
    splits = split_source(source, make_params({}).data, seed=0)
    write_prepared(splits, source)
    return in_memory(splits)


def test_prepared_data_reads_back_equal_and_memory_mapped(prepared):
    for name, part in prepared.items():
        read = read_prepared(name)
        assert torch.equal(read.images, part.images)
        assert torch.equal(read.labels, part.labels)
    maps = Path("/proc/self/maps")
    if maps.exists():
        kept = read_prepared("train")
        assert "train_images.npy" in maps.read_text()
        assert len(kept) == 180
    assert json.loads(Path("data/prepared/meta.json").read_text())["counts"]["train"] == 180


@pytest.mark.usefixtures("prepared")
def test_writing_again_gives_the_same_bytes(make_params, mnist_root):
    first = {path.name: path.read_bytes() for path in Path("data/prepared").iterdir()}
    source = read_source(data_settings("mnist", mnist_root))
    write_prepared(split_source(source, make_params({}).data, seed=0), source)
    assert first == {path.name: path.read_bytes() for path in Path("data/prepared").iterdir()}


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("damage", [b"", b"no numpy file", None])
def test_damaged_prepared_data_is_refused(damage):
    path = Path("data/prepared/train_images.npy")
    path.write_bytes(path.read_bytes()[:-1000] if damage is None else damage)
    with pytest.raises(DataError, match=r"train_images\.npy"):
        read_prepared("train")


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
@pytest.mark.usefixtures("prepared")
def test_damaged_meta_data_is_refused(content):
    Path("data/prepared/meta.json").write_text(content)
    with pytest.raises(DataError, match=r"meta\.json"):
        prepared_meta()


@pytest.mark.usefixtures("prepared")
def test_prepared_images_and_labels_of_different_number_are_refused():
    np.save("data/prepared/train_labels.npy", np.zeros(3, np.uint8))
    with pytest.raises(DataError, match="do not belong together"):
        read_prepared("train")


# Damage to the files, and a part of the error's text.
DAMAGES = {
    "empty file": (lambda raw: _truncate(raw, 0), "damaged"),
    "cut short": (lambda raw: _truncate(raw, 1000), "damaged"),
    "bad magic number": (lambda raw: _overwrite(raw, b"\xff\xff\xff\xff"), "damaged"),
    "count mismatch": (
        lambda raw: write_idx(raw / "train-labels-idx1-ubyte", np.arange(190) % 10),
        "200 training images, but 190 labels",
    ),
    "wrong shape": (
        lambda raw: write_idx(raw / "train-images-idx3-ubyte", np.zeros((200, 14, 56))),
        "have shape (1, 14, 56), but the test images (1, 28, 28)",
    ),
    "empty class": (
        lambda raw: write_idx(raw / "train-labels-idx1-ubyte", np.arange(200) % 9),
        "no training image is of class '9'",
    ),
    "label out of range": (
        lambda raw: write_idx(raw / "t10k-labels-idx1-ubyte", np.arange(50) % 11),
        "a test image has label 10",
    ),
    "labels for images": (
        lambda raw: write_idx(raw / "train-images-idx3-ubyte", np.arange(200) % 10),
        "damaged",
    ),
}


def _truncate(raw: Path, size: int) -> None:
    path = raw / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:size])


def _overwrite(raw: Path, start: bytes) -> None:
    path = raw / "train-images-idx3-ubyte"
    path.write_bytes(start + path.read_bytes()[len(start) :])


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_refused(mnist_root, damage):
    spoil, message = DAMAGES[damage]
    spoil(mnist_root / "MNIST" / "raw")
    with pytest.raises(DataError) as error:
        check_source(read_source(data_settings("mnist", mnist_root)))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0.002, 0.998])
def test_a_split_leaves_two_images_of_each_class_in_both_parts(make_params, share):
    settings = make_params({"data.test_share": share}).data
    with pytest.raises(DataError, match=r"data\.test_share: .* both parts need at least two"):
        split_source(read_source(data_settings("mnist-5k")), settings, seed=0)


def test_the_stage_ends_in_one_line_and_leaves_nothing_behind(tmp_path, mnist_root):
    _truncate(mnist_root / "MNIST" / "raw", 1000)
    changes = {"data.source": "mnist", "data.root": str(mnist_root)}
    result = run_stage(tmp_path, changes, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_without_a_network_the_error_says_where_to_put_the_files(tmp_path):
    changes = {"data.source": "fashion-mnist", "data.root": "raw"}
    proxies = {"http_proxy": NOWHERE, "https_proxy": NOWHERE, "no_proxy": ""}
    result = run_stage(tmp_path, changes, check=False, **proxies)
    assert result.returncode == 1
    assert f"t10k-labels-idx1-ubyte into {tmp_path}/raw/FashionMNIST/raw" in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error: data.source: fashion-mnist")
    assert not (tmp_path / "data").exists()


@pytest.fixture
def mirror(tmp_path, mnist_root, monkeypatch) -> Iterator[Path]:
    """A folder that a server on loopback serves as torchvision's mirror of MNIST."""
    from aae.data._torchvision import datasets

    zipped = tmp_path / "zipped"
    zipped.mkdir()
    resources = []
    for path in (mnist_root / "MNIST" / "raw").iterdir():
        content = gzip.compress(path.read_bytes())
        (zipped / f"{path.name}.gz").write_bytes(content)
        resources.append((f"{path.name}.gz", hashlib.md5(content).hexdigest()))
    handler = functools.partial(SimpleHTTPRequestHandler, directory=zipped)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(datasets.MNIST, "mirrors", [address])
        monkeypatch.setattr(datasets.MNIST, "resources", resources)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield zipped
        server.shutdown()


def test_a_download_that_breaks_off_leaves_nothing_and_the_next_one_is_whole(
    mirror, mnist_root, tmp_path, repository
):
    last = sorted(mirror.iterdir())[-1]
    last.rename(tmp_path / last.name)
    with pytest.raises(ParameterError, match=r"data\.source: mnist is not below data\.root and"):
        read_source(data_settings("mnist", repository / "no" / "where"))
    assert not (repository / "no").exists()
    (tmp_path / last.name).rename(last)
    source = read_source(data_settings("mnist", repository / "raw"))
    expected = read_source(data_settings("mnist", mnist_root))
    assert torch.equal(images_of(source.train), images_of(expected.train))
    assert torch.equal(source.test.labels, expected.test.labels)


def test_a_mirror_that_says_nothing_is_given_up(repository, monkeypatch):
    from aae.data._torchvision import datasets

    monkeypatch.setattr(published, "PATIENCE", 0.2)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setattr(datasets.MNIST, "mirrors", [address, address])
        with pytest.raises(ParameterError, match=r"could not be downloaded .* timed out"):
            read_source(data_settings("mnist", repository / "raw"))
    assert not (repository / "raw").exists()
    assert socket.getdefaulttimeout() is None


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("status", [403, 503, 200])
def test_a_mirror_that_answers_something_else_leaves_nothing(repository, monkeypatch, status):
    def answer(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.end_headers()
        handler.wfile.write(b"<html>please log in</html>")

    monkeypatch.setattr(SimpleHTTPRequestHandler, "do_GET", answer)
    with pytest.raises(ParameterError, match=r"data\.source: mnist is not below data\.root and co"):
        read_source(data_settings("mnist", repository / "raw"))
    assert not (repository / "raw").exists()


@pytest.mark.usefixtures("mirror")
def test_of_experiments_side_by_side_one_downloads(repository, capfd):
    read_source(data_settings("mnist", repository / "one"))
    of_one = capfd.readouterr().err.count('"GET /train-images')
    with ThreadPoolExecutor(4) as pool:
        sources = list(
            pool.map(lambda _: read_source(data_settings("mnist", repository / "all")), range(4))
        )
    assert {len(source.train) for source in sources} == {200}
    assert capfd.readouterr().err.count('"GET /train-images') == of_one


def test_files_that_are_zipped_need_no_network(mirror, repository):
    raw = repository / "raw" / "MNIST" / "raw"
    raw.parent.mkdir(parents=True)
    shutil.move(mirror, raw)
    assert len(read_source(data_settings("mnist", repository / "raw")).train) == 200


@pytest.mark.slow
def test_a_root_in_the_home_folder_is_there(tmp_path, mnist_root):
    changes = {"data.source": "mnist", "data.root": "~/source"}
    result = run_stage(tmp_path, changes, HOME=str(mnist_root.parent))
    assert "50 test images" in result.stdout


def test_a_queued_experiment_reads_the_images_of_the_repository_around_it(tmp_path, mnist_root):
    (tmp_path / "data").mkdir()
    mnist_root.rename(tmp_path / "data" / "raw")
    queued = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1234"
    queued.mkdir(parents=True)
    changes = {"data.source": "mnist", "data.root": "data/raw"}
    assert "50 test images" in run_stage(queued, changes).stdout


@pytest.mark.usefixtures("mirror")
def test_a_root_that_cannot_be_written_is_named(repository):
    (repository / "file").write_text("in the way")
    with pytest.raises(ParameterError, match=r"data\.root: .*file"):
        read_source(data_settings("mnist", repository / "file"))


def test_a_copy_that_lacks_a_file_is_left_as_it_is(mnist_root):
    raw = mnist_root / "MNIST" / "raw"
    (raw / "t10k-labels-idx1-ubyte").unlink()
    before = {path: path.read_bytes() for path in raw.iterdir()}
    with pytest.raises(ParameterError, match=r"MNIST/raw lacks t10k-labels-idx1-ubyte; add them"):
        read_source(data_settings("mnist", mnist_root))
    assert {path: path.read_bytes() for path in raw.iterdir()} == before


def test_torchvision_that_is_whole_keeps_its_own_operators(tmp_path):
    """If a library has declared the operators before, they must be unchanged afterwards."""
    program = """
import torch
from torch import library
library.define("torchvision::nms", "(Tensor dets, Tensor scores, float t) -> Tensor")
library.impl("torchvision::nms", "cpu", lambda dets, scores, t: scores + t)
from aae.data._torchvision import datasets
print(torch.ops.torchvision.nms(torch.zeros(1, 4), torch.ones(1), 2.0).item(), datasets.MNIST)
"""
    result = run(["python", "-c", program], tmp_path)
    assert result.stdout.startswith("3.0 <class")
