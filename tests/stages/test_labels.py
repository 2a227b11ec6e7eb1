"""Experiments with the variants that use labels, or find clusters."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from projects import SMALL, copy_project, made_once, run
from safetensors import safe_open

# What each variant needs, besides `labels.use`, and phases, measures and figures that only it has.
VARIANTS = {
    "prior": (
        ["prior=swiss_roll"],
        [],
        ["class_match_ratio", "classes_following"],
        ["codes_by_part"],
    ),
    "decoder": ([], [], ["asked_class_accuracy"], ["styles"]),
    "semi-supervised": (
        ["labels.count=100", "labels.places=true"],
        ["category_discriminator", "category_generator", "classification"],
        ["classification_error", "asked_class_accuracy"],
        ["styles", "placed_codes", "contingency"],
    ),
    "clusters": (
        ["labels.clusters=4"],
        ["category_discriminator", "category_generator"],
        ["cluster_error", "cluster_nmi"],
        ["styles", "clusters", "contingency"],
    ),
}


@pytest.mark.parametrize("use", VARIANTS)
def test_an_experiment_trains_measures_and_shows_a_variant(tmp_path_factory, tmp_path, use):
    changes, phases, measures, figures = VARIANTS[use]
    made = made_once(tmp_path_factory, "made", SMALL)
    project = Path(shutil.copytree(made, tmp_path / "project"))
    words = [word for change in (f"labels.use={use}", *changes) for word in ("-S", change)]
    output = run(["dvc", "exp", "run", *words], project).stdout
    assert "'train_ae' didn't change, skipping" in output
    history = (project / "reports" / "history" / "aae.csv").read_text().splitlines()[0].split(",")
    assert {f"{phase}_loss" for phase in phases} <= {*history}
    metrics = json.loads((project / "reports" / "metrics" / "latent.json").read_text())
    assert {*measures} <= metrics["aae"].keys()
    for name in ("ae", "ae_mixture"):
        assert not {*measures} & metrics[name].keys()
    with safe_open(project / "models" / "aae.safetensors", framework="pt") as file:
        (architecture,) = map(json.loads, file.metadata().values())
    assert architecture["categories"]["use"] == use
    drawn = [{path.stem for path in root.glob("reports/figures/*.png")} for root in (made, project)]
    assert drawn[1] - drawn[0] == {*figures}
    assert (project / "reports" / "report.html").stat().st_size < 6_000_000


def test_a_variant_that_needs_labels_is_refused_before_a_training(tmp_path_factory, tmp_path):
    made = made_once(tmp_path_factory, "made", SMALL)
    project = Path(shutil.copytree(made, tmp_path / "project"))
    changes = ["latent_dim=3", "labels.use=semi-supervised", "labels.count=99999"]
    words = [word for change in changes for word in ("-S", change)]
    result = run(["dvc", "exp", "run", *words], project, check=False)
    assert result.returncode != 0
    assert "train_ae 1/3" not in result.stdout, "though its parameters have changed"
    assert "error: labels.count: 99999 labels, equally many of each class" in result.stderr


def test_images_without_labels_are_refused_before_anything_is_written(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((100, 8, 8), np.uint8))
    changes = {"labels.use": "decoder", "data.source": str(tmp_path / "images.npy")}
    project = copy_project(tmp_path / "project", SMALL | changes)
    result = run(["dvc", "repro"], project, check=False)
    assert result.returncode != 0
    assert "error: labels.use: 'decoder' needs images with labels" in result.stderr
    assert not (project / "data" / "prepared").exists()
