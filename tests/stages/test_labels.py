"""Experiments with the variants that use labels, or find clusters."""

import json
import shutil
from pathlib import Path

import pytest
from projects import SMALL, made_once, run
from safetensors import safe_open

# What each variant needs, besides `labels.use`, and phases and measures that only it has.
VARIANTS = {
    "prior": (["prior=swiss_roll"], [], ["class_match_ratio", "classes_following"]),
    "decoder": ([], [], ["asked_class_accuracy"]),
    "semi-supervised": (
        ["labels.count=100"],
        ["category_discriminator", "category_generator", "classification"],
        ["classification_error", "asked_class_accuracy"],
    ),
    "clusters": (
        ["labels.clusters=4"],
        ["category_discriminator", "category_generator"],
        ["cluster_error", "cluster_nmi"],
    ),
}


@pytest.mark.parametrize("use", VARIANTS)
def test_an_experiment_trains_measures_and_shows_a_variant(tmp_path_factory, tmp_path, use):
    changes, phases, measures = VARIANTS[use]
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
