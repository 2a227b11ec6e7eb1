"""Measure, on held-out images, how well the codes of both models follow the prior; draw figures.

Reads data/prepared, both models and their histories; writes reports/metrics/latent.json,
reports/provenance.json, reports/figures and reports/plots.
"""

from pathlib import Path

import pandas as pd

from aae import figures
from aae.checkpoints import load_model
from aae.data import pixels, prepared_digest, prepared_meta, read_prepared
from aae.evaluation import evaluate, latent_histogram, prior_quantile_shares
from aae.files import file_digest, write_csv, write_json
from aae.networks import apply
from aae.params import Params
from aae.runs import evaluation_run
from aae.stage import run_stage

MODELS = {name: Path(f"models/{name}.safetensors") for name in ("ae", "aae")}
HISTORIES = {name: Path(f"reports/history/{name}.csv") for name in MODELS}
METRICS = Path("reports/metrics/latent.json")
FIGURES = Path("reports/figures")
PROVENANCE = Path("reports/provenance.json")
QUANTILES = Path("reports/plots/prior_quantiles.csv")


def main(params: Params) -> None:
    """Evaluate both models."""
    test, meta = read_prepared("test"), prepared_meta()
    prior, settings = params.latent_prior, params.eval_latent
    models = {name: load_model(path) for name, path in MODELS.items()}
    codes = {name: apply(model.encoder, test.images) for name, model in models.items()}

    results = {
        name: evaluate(model, test.images, codes[name], prior, settings, params.seed)
        for name, model in models.items()
    }
    write_json(METRICS, results)
    digests = {"data": prepared_digest()} | {k: file_digest(v) for k, v in MODELS.items()}
    write_json(PROVENANCE, {"data": meta, "sha256": digests})
    shares = {name: prior_quantile_shares(z, prior) for name, z in codes.items()}
    bins = len(shares["ae"])
    quantiles = {"prior_quantile": [(k + 0.5) / bins for k in range(bins)], "prior": 1 / bins}
    write_csv(QUANTILES, pd.DataFrame(quantiles | shares))

    names = meta["class_names"]
    examples = test.first_of_each_class()
    originals = pixels(examples.images)
    reconstructions = {
        name: apply(model.decoder, apply(model.encoder, originals))
        for name, model in models.items()
    }
    decoders = {name: model.decoder for name, model in models.items()}
    histories = {name: pd.read_csv(path) for name, path in HISTORIES.items()}
    drawn = {
        "latent_histogram": figures.draw_latent_histograms(codes, prior),
        "codes_by_class": figures.draw_codes_by_class(codes, test.labels, names, prior),
        "losses": figures.draw_losses(histories),
        "reconstructions": figures.draw_reconstructions(originals, reconstructions, names),
        "decoded_prior": figures.draw_decoded_prior(decoders, prior),
    }
    for name, figure in drawn.items():
        figures.save_figure(figure, FIGURES / f"{name}.png")

    # The autoencoder is the same for every prior: its run holds an evaluation for each.
    for name, trained_with, prefix in (
        ("ae", "none", f"{params.prior}/"),
        ("aae", params.prior, ""),
    ):
        histogram = latent_histogram(codes[name], prior)
        with evaluation_run(MODELS[name], f"train_{name}", trained_with, params.seed) as run:
            run.log_evaluation(results[name], histogram, FIGURES, prefix)


if __name__ == "__main__":
    run_stage(main, __doc__)
