"""Train the adversarial autoencoder: reconstruction phase and regularisation phase in every step.

Reads data/prepared and models/ae.safetensors; writes models/aae.safetensors,
reports/history/aae.csv and reports/metrics/train_aae.json.
"""

from pathlib import Path

import pandas as pd

from aae.checkpoints import load_model, save_model
from aae.data import prepared_digest, prepared_meta, read_prepared
from aae.figures import draw_latent_histograms, to_array
from aae.files import write_csv, write_json
from aae.networks import Architecture, Model, apply
from aae.params import Params
from aae.progress import show_epochs
from aae.runs import training_run
from aae.stage import run_stage
from aae.training import AdversarialTraining, initialise

AUTOENCODER = Path("models/ae.safetensors")
MODEL = Path("models/aae.safetensors")
HISTORY = Path("reports/history/aae.csv")
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
    with training_run("train_aae", params.prior, params.seed, recorded) as run:
        run.log_dataset(meta["source"], prepared_digest())
        history = []
        for losses in show_epochs(training.epochs(), settings.epochs, "train_aae"):
            history.append(losses)
            run.log_epoch(losses)
            epoch = len(history)
            if epoch % params.tracking.histogram_every == 0 or epoch in (1, settings.epochs):
                codes = {"aae": apply(model.encoder, validation)}
                run.log_image(
                    to_array(draw_latent_histograms(codes, prior)), "latent_histogram", epoch
                )
        save_model(model, MODEL)
        write_csv(HISTORY, pd.DataFrame(history))
        write_json(METRICS, history[-1])
        run.log_model(MODEL, architecture)


if __name__ == "__main__":
    run_stage(main, __doc__)
