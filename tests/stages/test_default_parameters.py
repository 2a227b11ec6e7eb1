"""The whole pipeline with the default parameters: the longest test, and therefore the first."""

import json

import pytest
from projects import copy_project, run


@pytest.mark.long
def test_at_the_default_parameters_the_codes_follow_the_prior(tmp_path):
    """Test the promise of the README with nothing made smaller."""
    root = copy_project(tmp_path / "project", {})
    run(["dvc", "repro"], root)
    metrics = json.loads((root / "reports" / "metrics" / "latent.json").read_text())
    ae, aae = metrics["ae"], metrics["aae"]
    assert aae["follows_prior"]
    assert not ae["follows_prior"]
    assert ae["match_ratio"] >= 2 * aae["match_ratio"]
    assert aae["reconstruction_mse"] <= 1.04 * ae["reconstruction_mse"]
    assert aae["generated_frechet"] <= 1.1 * ae["generated_frechet"]
    assert aae["knn_accuracy"] >= 0.70
    assert metrics["real"]["judge_accuracy"] >= 0.95
    assert (root / "reports" / "report.html").stat().st_size < 6e6

    # Without a discriminator that learns, nothing draws the codes to the prior.
    run(["dvc", "exp", "run", "-S", "train_aae.learning_rate.discriminator=0.0"], root)
    crippled = json.loads((root / "reports" / "metrics" / "latent.json").read_text())["aae"]
    assert not crippled["follows_prior"]
    assert crippled["match_ratio"] > 1.5 * aae["match_ratio"]
