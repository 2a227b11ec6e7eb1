"""The data sets of torchvision, read from small files in their own formats."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from published_example import CLASSES, write_published
from support import data_settings

from aae.data import check_source, in_memory, read_source, split_source
from aae.data.published import PUBLISHED
from aae.errors import DataError, ParameterError


@pytest.mark.parametrize("name", PUBLISHED)
def test_files_in_its_own_format_are_read(tmp_path, name):
    written = write_published(name, tmp_path, per_class=6)
    data = data_settings(name, tmp_path, validation_share=0.4)
    source = read_source(data)
    check_source(source)
    assert len(source.class_names) == CLASSES.get(name, 10)
    for part in ("train", "test"):
        images, labels = written[part]
        read = getattr(source, part)
        found = torch.cat(list(read.read())).int()
        # The format of USPS has rounded decimal fractions.
        torch.testing.assert_close(
            found, torch.from_numpy(images).int(), atol=1 if name == "usps" else 0, rtol=0
        )
        assert read.labels.tolist() == labels.tolist()
    splits = in_memory(split_source(source, data, 0))
    assert len(splits["test"]) == len(written["test"][0])


@pytest.mark.parametrize("name", PUBLISHED)
def test_size_and_channels_can_be_chosen(tmp_path, name):
    write_published(name, tmp_path)
    source = read_source(data_settings(name, tmp_path, size=20, channels=3))
    assert source.train.shape == (3, 20, 20)
    assert next(iter(source.test.read())).shape[1:] == (3, 20, 20)


@pytest.mark.parametrize("name", PUBLISHED)
def test_damaged_files_are_named(tmp_path, name):
    write_published(name, tmp_path)
    entry = PUBLISHED[name]
    damaged = tmp_path / entry.folder / entry.files[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(
        DataError, match=r"images or labels are damaged .*; delete the files"
    ) as error:
        check_source(read_source(data_settings(name, tmp_path)))
    assert "\n" not in str(error.value)


class Evil:
    """A pickle of this object makes a file as it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    write_published("cifar10", tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(
        pickle.dumps({"data": Evil(tmp_path / "made")})
    )
    with pytest.raises(DataError, match=r"(posix|nt)\.mkdir is not allowed"):
        read_source(data_settings("cifar10", tmp_path))
    assert not (tmp_path / "made").exists()


def test_a_file_that_lies_beside_others_is_not_downloaded_again(tmp_path, monkeypatch, repository):
    """The two files of USPS lie in the root itself, among those of other data sets."""
    from aae.data._torchvision import datasets

    write_published("usps", tmp_path)
    whole = (tmp_path / "usps.bz2").read_bytes()
    (tmp_path / "usps.t.bz2").unlink()
    nowhere = {part: ["http://127.0.0.1:9/x", name, None] for part, (_, name, _) in
               datasets.USPS.split_list.items()}  # fmt: skip
    monkeypatch.setattr(datasets.USPS, "split_list", nowhere)
    with pytest.raises(
        ParameterError, match=r"data\.source: usps .* put its files usps\.bz2, usps\.t"
    ):
        read_source(data_settings("usps", tmp_path))
    assert (tmp_path / "usps.bz2").read_bytes() == whole
    assert repository.exists()
