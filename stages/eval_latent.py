"""Measure, on held-out images, how well the codes of both models follow the prior; draw figures.

Reads data/prepared, both models and the histories of their training. Writes all measures to
reports/metrics/latent.json, those of the adversarial autoencoder that fit into a line (`dvc metrics
show`, `dvc exp show`) to reports/metrics/aae.json, and for the page reports/explorer.json,
reports/provenance.json, reports/figures and reports/plots.
"""

from pathlib import Path

import pandas as pd

from aae.models.checkpoints import load_model
from aae.data.data import SPLITS, prepared_digest, prepared_meta, read_prepared
from aae.evaluation.densities import latent_histogram, prior_quantile_shares
from aae.evaluation.evaluation import SUMMARY, Evaluation
from aae.report.explorer import explorer_data
from aae.report.figures import save_figure
from aae.files import file_digest, write_csv, write_json
from aae.report.gallery import draw_all
from aae.models.networks import apply
from aae.params import Params
from aae.progress import show_steps
from aae.tracking.runs import evaluation_run
from aae.pipeline.stage import run_stage

MODELS = {name: Path(f"models/{name}.safetensors") for name in ("ae", "aae")}
HISTORIES = {name: Path(f"reports/history/{name}.csv") for name in MODELS}
HISTOGRAMS = Path("reports/history/aae_histograms.csv")
METRICS = Path("reports/metrics/latent.json")
AAE_METRICS = Path("reports/metrics/aae.json")
PROVENANCE = Path("reports/provenance.json")
EXPLORER = Path("reports/explorer.json")
FIGURES = Path("reports/figures")
QUANTILES = Path("reports/plots/prior_quantiles.csv")


def main(params: Params) -> None:
    """Evaluate both models."""
    splits, meta = {name: read_prepared(name) for name in SPLITS}, prepared_meta()
    prior, names, test = params.latent_prior, meta["class_names"], splits["test"]
    models = {name: load_model(path) for name, path in MODELS.items()}
    codes = {name: apply(model.encoder, test.images) for name, model in models.items()}

    evaluate = Evaluation(splits, names, prior, params.eval_latent, params.seed, show_steps)
    results = {name: evaluate(model) for name, model in models.items()}
    write_json(METRICS, results | {"real": evaluate.real})
    write_json(AAE_METRICS, {name: results["aae"][name] for name in SUMMARY})
    digests = {"data": prepared_digest()} | {k: file_digest(v) for k, v in MODELS.items()}
    write_json(PROVENANCE, {"data": meta, "sha256": digests})
    write_csv(QUANTILES, prior_quantile_shares(codes, prior))

    write_json(EXPLORER, explorer_data(models, codes, test, names, prior))
    histories = {name: pd.read_csv(path) for name, path in HISTORIES.items()}
    histograms, generation = pd.read_csv(HISTOGRAMS), evaluate.generation
    figures = draw_all(models, codes, splits, names, prior, histories, histograms, generation)
    for name, figure in figures.items():
        save_figure(figure, FIGURES / f"{name}.png")

    # The autoencoder is the same for every prior: its run keeps the last evaluation for each name
    # of a prior, and a tag with the arguments that this had.
    distribution = {"distribution": str(params.priors[params.prior])}
    for name, trained_with, prefix in (
        ("ae", "none", f"{params.prior}/"),
        ("aae", params.prior, ""),
    ):
        histogram = latent_histogram(codes[name], prior)
        with evaluation_run(MODELS[name], f"train_{name}", trained_with, params.seed) as run:
            run.log_evaluation(results[name], histogram, FIGURES, prefix, distribution)


if __name__ == "__main__":
    run_stage(main, __doc__)
