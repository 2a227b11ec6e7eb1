"""The inputs of a page, with arbitrary numbers."""

from aae.evaluation.measures import MEASURES

FIGURES = (
    "autoencoder_codes", "generated_classes", "prior", "losses", "training_histograms",
    "codes_by_class", "latent_histogram", "decoded_prior", "reconstructions", "interpolations",
    "samples",
)  # fmt: skip
TESTED = (
    "sliced_wasserstein", "energy_distance", "mmd2", "ks_statistic", "ks_projected",
    "c2st_accuracy", "prior_coverage",
)  # fmt: skip
FLOOR = (*TESTED, "prior_density", "prior_gap_share")
REAL = (
    "generated_frechet", "generated_confidence", "generated_entropy", "generated_precision",
    "generated_recall", "parzen_log_likelihood", "nearest_training_distance",
)  # fmt: skip
OTHER = (
    "reconstructed_frechet", "reconstructed_confidence", "reconstruction_mse", "knn_accuracy",
    "probe_accuracy", "silhouette",
)  # fmt: skip
MODEL = {
    **dict.fromkeys((*FLOOR, *REAL, *OTHER), 0.123456),
    "sliced_wasserstein": 0.5,
    "match_ratio": 1.23,
    "floor": {name: {"mean": 0.0504 + 0.01 * k, "q95": 0.1} for k, name in enumerate(FLOOR)},
    "p_value": dict.fromkeys(TESTED, 0.25) | {"all": 0.31},
    "follows_prior": True,
    "posterior": "gaussian",
}
BAD = MODEL | {"match_ratio": 5.08, "follows_prior": False, "posterior": "deterministic"}
BAD["p_value"] = dict.fromkeys([*TESTED, "all"], 0.005)
REAL_IMAGES = dict.fromkeys(REAL, 0.777) | {"judge_accuracy": 0.9612}
RIVAL = dict.fromkeys(REAL, 0.1111)
METRICS = {"ae": BAD, "aae": MODEL, "ae_mixture": RIVAL, "real": REAL_IMAGES}
# The same for images without labels.
UNLABELLED_METRICS = {
    model: {
        key: value
        for key, value in found.items()
        if key not in MEASURES or not MEASURES[key].needs_labels
    }
    for model, found in METRICS.items()
}
PANEL = {
    "title": "Autoencoder", "names": ["code"], "low": [0.0], "high": [1.0], "grid": [2, 1],
    "decoded": "data:,", "dots": [[0.5, 0.5]], "curves": [], "reconstructions": "data:,",
}  # fmt: skip
EXPLORER = {
    "image_size": [28, 28], "columns": 25, "labels": [0], "class_names": ["none"],
    "colours": ["#123456"], "originals": "data:,", "models": {"ae": PANEL, "aae": PANEL},
}  # fmt: skip
# What the page of a model with categories has in addition, by the model's ``labels.use``.
OF_PARTS = {
    "class_match_ratio": 1.35,
    "classes_following": 1.0,
    "by_class": {"0": {"match_ratio": 1.35, "p_value": 0.125, "follows_prior": True}},
}
FIGURES_OF = {
    "prior": ["codes_by_part"],
    "decoder": ["styles"],
    "semi-supervised": ["styles", "contingency"],
    "clusters": ["styles", "clusters", "placed_codes", "contingency"],
}
CHOICES = {"choice": "class", "choices": ["none"], "chosen": [0]}
PROVENANCE = {
    "prior": {"univariate": True, "by_ranks": False},
    "data": {"source": "mnist-5k", "counts": {"train": 3600, "validation": 400, "test": 1000}},
    "sha256": {"data": "d" * 64, "ae": "a" * 64, "aae": "b" * 64},
}
