"""Train the adversarial autoencoder: reconstruction phase and regularisation phase in every step.

Reads data/prepared and models/ae.safetensors; writes models/aae.safetensors,
reports/history/aae.csv, reports/history/aae_histograms.csv and reports/metrics/train_aae.json.
"""

import math
from pathlib import Path

import pandas as pd

from aae.checkpoints import load_model, save_model
from aae.data import prepared_digest, prepared_meta, read_prepared
from aae.densities import latent_histogram
from aae.figures import draw_latent_histograms, to_array
from aae.files import write_csv, write_json
from aae.networks import Architecture, Model, apply
from aae.params import Params
from aae.progress import show_epochs
from aae.runs import Run, training_run
from aae.stage import run_stage
from aae.training import AdversarialTraining, initialise

AUTOENCODER = Path("models/ae.safetensors")
MODEL = Path("models/aae.safetensors")
HISTORY = Path("reports/history/aae.csv")
HISTOGRAMS = Path("reports/history/aae_histograms.csv")
# Shares of the training after which a latent histogram is kept for the page.
KEPT = (0.0, 0.02, 0.1, 0.2, 0.5, 1.0)
METRICS = Path("reports/metrics/train_aae.json")
PARAMS = {"seed", "data", "latent_dim", "prior", "network", "train_aae"}


def main(params: Params) -> None:
    """Train, and record every epoch."""
    images, validation = read_prepared("train").images, read_prepared("validation").images
    meta = prepared_meta()
    prior, settings = params.latent_prior, params.train_aae
    prior_entry = {"name": params.prior, **params.priors[params.prior].model_dump()}
    architecture = Architecture(
        image_shape=meta["image_shape"],
        latent_dim=params.latent_dim,
        hidden=params.network.hidden,
        discriminator_hidden=params.network.discriminator_hidden,
        prior=prior_entry,
    )
    model = Model(architecture, params.seed)
    initialise(model, prior, settings, load_model(AUTOENCODER), images)
    training = AdversarialTraining(model, prior, settings, images, validation, params.seed)

    recorded = params.model_dump(include=PARAMS) | {"prior": prior_entry}
    every = params.tracking.histogram_every
    tracked = {0, 1, settings.epochs, *range(0, settings.epochs, every)}
    kept = {math.ceil(share * settings.epochs) for share in KEPT}
    histograms, history = [], []

    def look_at_codes(run: Run, epoch: int) -> None:
        codes = apply(model.encoder, validation)
        if epoch in kept:
            histograms.append(latent_histogram(codes, prior).assign(epoch=epoch))
        if epoch in tracked:
            image = to_array(draw_latent_histograms({"aae": codes}, prior))
            run.log_image(image, "latent_histogram", epoch)

    with training_run("train_aae", params.prior, params.seed, recorded) as run:
        run.log_dataset(meta["source"], prepared_digest())
        look_at_codes(run, 0)
        for losses in show_epochs(training.epochs(), settings.epochs, "train_aae"):
            history.append(losses)
            run.log_epoch(losses)
            look_at_codes(run, len(history))
        save_model(model, MODEL)
        write_csv(HISTORY, pd.DataFrame(history))
        write_csv(HISTOGRAMS, pd.concat(histograms))
        write_json(METRICS, history[-1])
        run.log_model(MODEL, architecture)


if __name__ == "__main__":
    run_stage(main, __doc__)
