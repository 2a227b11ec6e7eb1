"""The pipeline on a user's own images, and what happens when these change."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from projects import (
    LONG,
    SMALL,
    commit,
    copy_project,
    end,
    gate,
    outputs,
    run,
    start,
    start_queue,
    wait_for_epoch,
    wait_for_queue,
)
from published_example import write_published

from aae.data.published import PUBLISHED
from aae.files import file_digest, tree_digest


def write_pictures(folder: Path, classes: tuple[str, ...], count: int = 60) -> Path:
    """Write colour pictures of several sizes into a folder for each class, or all into one."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            height, width = rng.integers(16, 40, 2)
            picture = rng.integers(0, 100, (height, width, 3), dtype=np.uint8)
            picture[: height // 2, :, number] += 150
            Image.fromarray(picture).save(folder / name / f"{number}-{k:03}.jpg")
    return folder


def prepared(project: Path) -> dict:
    return json.loads((project / "data" / "prepared" / "meta.json").read_text())


def counts_of(project: Path, experiment: str) -> dict:
    """The numbers of images with which an experiment ran in a copy of the project."""
    refs = run(["git", "for-each-ref", "--format=%(refname)", "refs/exps"], project).stdout.split()
    (ref,) = [ref for ref in refs if ref.endswith(f"/{experiment}")]
    return json.loads(run(["git", "show", f"{ref}:reports/provenance.json"], project).stdout)[
        "data"
    ]["counts"]


@pytest.mark.slow
def test_one_picture_more_prepares_the_images_again_and_trains_again(tmp_path):
    pictures = write_pictures(tmp_path / "pictures", ("red", "green"))
    changes = {"data.source": str(pictures), "data.size": 16}
    project = copy_project(tmp_path / "project", SMALL | changes)
    run(["dvc", "repro"], project)
    assert prepared(project)["counts"] == {"train": 86, "validation": 10, "test": 24}
    commit(project, "results")

    assert "Data and pipelines are up to date." in run(["dvc", "repro"], project).stdout
    assert run(["git", "status", "--porcelain"], project).stdout == ""

    (pictures / "red" / "new.jpg").write_bytes((pictures / "red" / "0-000.jpg").read_bytes())
    run(["dvc", "exp", "run", "--temp", "--name", "temporary"], project)
    run(["dvc", "exp", "run", "--queue", "--name", "queued"], project)
    start_queue(project)
    assert "Success" in wait_for_queue(project)
    for name in ("temporary", "queued"):
        assert counts_of(project, name) == {"train": 87, "validation": 10, "test": 24}
    assert prepared(project)["counts"]["train"] == 86, "experiments in copies change nothing here"

    (pictures / "red" / "0-001.jpg").write_bytes((pictures / "red" / "0-000.jpg").read_bytes())
    output = run(["dvc", "repro"], project).stdout
    assert prepared(project)["counts"] == {"train": 87, "validation": 10, "test": 24}
    assert "didn't change, skipping" not in output


def test_experiments_one_after_another_change_no_image(tmp_path):
    pictures = write_pictures(tmp_path / "pictures", ("red", "green"), count=30)
    arrays = tmp_path / "arrays.npy"
    np.save(arrays, np.random.default_rng(0).integers(0, 256, (60, 16, 16), dtype=np.uint8))
    before = tree_digest(pictures), file_digest(arrays)

    project = copy_project(tmp_path / "project", SMALL)
    # Before an experiment, DVC takes back what the one before has changed in git's files.
    for source in (arrays, pictures, "mnist-5k"):
        settings = ["-S", f"data.source={source}", "-S", "data.size=16"]
        run(["dvc", "exp", "run", *settings, "prepare_data"], project)
        assert prepared(project)["source"] == Path(source).stem
        assert (tree_digest(pictures), file_digest(arrays)) == before


@pytest.mark.slow
def test_a_folder_of_which_git_tracks_a_part_is_read_whole_in_a_copy_too(tmp_path):
    project = copy_project(tmp_path / "project", SMALL | {"data.size": 16})
    write_pictures(project / "photos", ("red",), count=40)
    commit(project, "some photos")
    write_pictures(project / "photos", ("red", "green"), count=40)
    (project / ".git" / "info" / "exclude").write_text("/photos/green\n")
    run(["dvc", "exp", "run", "--temp", "-n", "part", "-S", "data.source=photos"], project)
    assert sum(counts_of(project, "part").values()) == 80

    # If git tracks all of it, the experiment has the version of its commit.
    shutil.rmtree(project / "photos" / "green")
    run(["dvc", "exp", "run", "--queue", "-n", "all", "-S", "data.source=photos"], project)
    (project / "photos" / "red" / "0-000.jpg").unlink()
    start_queue(project)
    assert "Success" in wait_for_queue(project)
    assert sum(counts_of(project, "all").values()) == 40


def test_a_folder_in_place_of_the_link_is_named(tmp_path):
    project = copy_project(tmp_path / "project", SMALL)
    (project / "data" / "source.link").mkdir()
    result = run(["dvc", "repro", "prepare_data"], project, check=False)
    assert result.returncode
    assert "error: data/source.link is a folder and no link: " in result.stderr


@pytest.mark.slow
def test_images_that_dvc_tracks_are_read_and_watched_too(tmp_path):
    project = copy_project(tmp_path / "project", SMALL | {"data.size": 16})
    write_pictures(project / "data" / "photos", ("",), count=120)
    run(["dvc", "add", "data/photos"], project)
    commit(project, "photos")
    run(["dvc", "exp", "run", "-S", "data.source=data/photos"], project)
    assert prepared(project) == {
        "source": "photos", "class_names": [], "image_shape": [3, 16, 16],
        "counts": {"train": 86, "validation": 10, "test": 24},
    }  # fmt: skip
    (project / "data" / "photos" / "0-000.jpg").unlink()
    output = run(["dvc", "repro", "prepare_data"], project).stdout
    assert "85 train" in output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "use"),
    [
        (("red", "green"), "none"),
        (("red", "green"), "semi-supervised"),
        (("",), "none"),
        (("",), "clusters"),
    ],
)
def test_the_promises_hold_for_pictures_and_convolutions(tmp_path, classes, use):
    pictures = write_pictures(tmp_path / "pictures", classes, count=120 // len(classes))
    conv = {"network.kind": "conv", "network.channels": [8], "network.features": [16]}
    short = {
        "latent_dim": 3,
        "labels.use": use,
        "train_ae.epochs": 6,
        "train_aae.epochs": 6,
        "regression.overrides": {"seed": 1},
    }
    changes = LONG | conv | short | {"data.source": str(pictures), "data.size": 16}

    whole = copy_project(tmp_path / "whole", changes)
    run(["dvc", "repro"], whole)
    killed = copy_project(tmp_path / "killed", changes)
    for stage in ("train_ae", "train_aae"):
        process = start(["dvc", "repro"], killed, OMP_NUM_THREADS="2")
        wait_for_epoch(process, stage, 2)
        end(process)
    result = run(["dvc", "repro"], killed, OMP_NUM_THREADS="2")
    assert "resuming from epoch" in result.stdout
    assert outputs(killed) == outputs(whole)

    commit(whole, "results")
    assert gate(whole, "--accept").returncode == 0
    commit(whole, "baseline")
    answer = gate(whole, "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["verdict"] == "pass"

    alone = json.loads((whole / "reports" / "metrics" / "train_aae.json").read_text())
    several = "launcher=torchrun --standalone --nproc-per-node 2"
    run(["dvc", "exp", "run", "--set-param", several, "train_aae"], whole)
    together = json.loads((whole / "reports" / "metrics" / "train_aae.json").read_text())
    assert together == pytest.approx(alone, rel=1e-2)


@pytest.mark.parametrize(
    ("source", "settings"),
    [
        pytest.param(
            "cifar10", ["network.kind=conv", "latent_dim=64"], marks=pytest.mark.slow, id="cifar10"
        ),
        *(
            pytest.param(name, ["network.kind=conv"], marks=pytest.mark.long, id=name)
            for name in PUBLISHED
            if name != "cifar10"
        ),
    ],
)
def test_every_published_data_set_runs_with_convolutions(tmp_path, source, settings):
    project = copy_project(tmp_path / "project", SMALL | {"data.validation_share": 0.2})
    write_published(source, project / "data" / "raw", per_class=20)
    words = [word for setting in (f"data.source={source}", *settings) for word in ("-S", setting)]
    run(["dvc", "exp", "run", *words], project)
    metrics = json.loads((project / "reports" / "metrics" / "latent.json").read_text())
    assert metrics["aae"]["reconstruction_mse"] > 0
    assert prepared(project)["source"] == source
