"""Measure on held-out images how well the codes of both models follow the prior; draw the figures.

Reads data/prepared, both models and the histories of their trainings. Writes all measures to
reports/metrics/latent.json, and the headline measures of the adversarial autoencoder, for `dvc
metrics show` and `dvc exp show`, to reports/metrics/aae.json. For the page it writes
reports/explorer.json, reports/provenance.json, reports/figures and reports/plots.
"""

from pathlib import Path

import pandas as pd

from aae.pipeline.stage import run_stage
from aae.data import SPLITS, prepared_digest, prepared_meta, read_prepared
from aae.errors import DataError
from aae.evaluation.evaluation import Evaluation
from aae.evaluation.histograms import latent_histogram, prior_quantile_shares
from aae.evaluation.measures import headlines
from aae.files import file_digest, replacing, write_csv, write_json
from aae.models import load_model
from aae.params import Params
from aae.priors import chosen_prior
from aae.progress import show_steps
from aae.report.explorer import explorer_data
from aae.report.figures import save_figure
from aae.report.gallery import draw_all
from aae.tracking.address import store_uri
from aae.tracking.run import evaluation_run
from aae.workspace import project_root

MODELS = {name: Path(f"models/{name}.safetensors") for name in ("ae", "aae")}
HISTORIES = {name: Path(f"reports/history/{name}.csv") for name in MODELS}
HISTOGRAMS = Path("reports/history/aae_histograms.csv")
METRICS = Path("reports/metrics/latent.json")
HEADLINE_METRICS = Path("reports/metrics/aae.json")
PROVENANCE = Path("reports/provenance.json")
EXPLORER = Path("reports/explorer.json")
FIGURES = Path("reports/figures")
QUANTILES = Path("reports/plots/prior_quantiles.csv")


def read_history(path: Path, stage: str) -> pd.DataFrame:
    """Return a table of a training; an error names the stage that writes it anew."""
    try:
        table = pd.read_csv(path)
    except ValueError as error:  # of pandas' parser, or bytes that are no text
        raise DataError(f"{path}: {error}; run `dvc repro --force {stage}`") from error
    if "epoch" not in table or table.empty:
        raise DataError(f"{path}: it has no epochs; run `dvc repro --force {stage}`")
    return table


def main(params: Params) -> None:
    """Evaluate all models."""
    store_uri(project_root(Path.cwd()))  # an address that MLflow cannot use is an error now
    splits, meta = {name: read_prepared(name) for name in SPLITS}, prepared_meta()
    prior, names, test = chosen_prior(params), meta["class_names"], splits["test"]
    models = {name: load_model(path, params.network.kind) for name, path in MODELS.items()}
    histories = {name: read_history(path, f"train_{name}") for name, path in HISTORIES.items()}
    histograms = read_history(HISTOGRAMS, "train_aae")
    codes = {name: model.encode(test.images) for name, model in models.items()}

    evaluate = Evaluation(splits, names, prior, params.eval_latent, params.seed, show_steps)
    samples = {name: evaluate.posterior_samples(model) for name, model in models.items()}
    results = {name: evaluate(model) for name, model in models.items()}
    rival = {"ae_mixture": evaluate.rival(models["ae"])}
    write_json(METRICS, results | rival | {"real": evaluate.real})
    write_json(HEADLINE_METRICS, headlines(results["aae"]))
    digests = {"data": prepared_digest()} | {k: file_digest(v) for k, v in MODELS.items()}
    known = {"univariate": prior.univariate, "by_ranks": not prior.has_variance}
    write_json(PROVENANCE, {"data": meta, "prior": known, "sha256": digests})
    write_csv(QUANTILES, prior_quantile_shares(samples, prior))

    write_json(EXPLORER, explorer_data(models, codes, test, names, prior))
    figures = draw_all(
        models, codes, samples, splits, names, prior, histories, histograms, evaluate.generation
    )
    with replacing(FIGURES) as folder:
        folder.mkdir()
        for name, figure in figures.items():
            save_figure(figure, folder / f"{name}.png")

    # An autoencoder is the same for every prior. Therefore its run keeps an evaluation for each
    # name of a prior, and a tag with the arguments of the prior.
    distribution = {"distribution": str(params.priors[params.prior])}
    for name, model in models.items():
        has_prior = model.architecture.prior is not None
        prefix, trained_with = ("", params.prior) if has_prior else (f"{params.prior}/", "none")
        histogram = latent_histogram(samples[name], prior)
        with evaluation_run(MODELS[name], f"train_{name}", trained_with, params.seed) as run:
            run.log_evaluation(results[name], histogram, FIGURES, prefix, distribution)


if __name__ == "__main__":
    run_stage(main, __doc__, needs_device=False)
