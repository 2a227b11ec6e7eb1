"""Train the adversarial autoencoder: reconstruction phase and regularisation phase in every step.

Reads data/prepared and models/ae.safetensors; writes models/aae.safetensors,
reports/history/aae.csv, reports/history/aae_histograms.csv and reports/metrics/train_aae.json.
"""

import math
from pathlib import Path

from aae.models.checkpoints import load_model, save_model
from aae.data.data import prepared_meta, read_prepared
from aae.evaluation.densities import latent_histogram
from aae.training.devices import training_device
from aae.training.distributed import is_leader
from aae.report.figures import draw_latent_histograms, to_array
from aae.files import check_writable, to_csv, write_csv, write_json, write_text
from aae.models.networks import Architecture, Model, apply
from aae.params import Params
from aae.pipeline.session import follow, training_session
from aae.pipeline.stage import run_stage
from aae.training.phases import AdversarialTraining, initialise

AUTOENCODER = Path("models/ae.safetensors")
MODEL = Path("models/aae.safetensors")
HISTORY = Path("reports/history/aae.csv")
HISTOGRAMS = Path("reports/history/aae_histograms.csv")
# Shares of the training after which a latent histogram is kept for the page.
KEPT = (0.0, 0.02, 0.1, 0.2, 0.5, 1.0)
METRICS = Path("reports/metrics/train_aae.json")
# Of the parameters, as in dvc.yaml; the data are tracked as well.
DETERMINED_BY = {
    "seed", "precision", "device", "data", "latent_dim", "prior", "network", "train_aae"
}  # fmt: skip


def main(params: Params) -> None:
    """Train, and record every epoch."""
    device = training_device(params.device)
    check_writable(MODEL, HISTORY, HISTOGRAMS, METRICS)
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
    training = AdversarialTraining(
        model.to(device), prior, settings, images, validation, params.seed, params.precision
    )

    if not is_leader():
        follow(training)
        return

    resolved = {
        "precision": training.precision, "device": device.type, "prior": prior_entry
    }  # fmt: skip
    determined_by = params.model_dump(include=DETERMINED_BY) | resolved
    epochs, every = settings.epochs, params.tracking.histogram_every
    tracked = {0, 1, epochs, *range(0, epochs, every)}
    kept = {math.ceil(share * epochs) for share in KEPT}
    with training_session("train_aae", params, determined_by, training, "histograms") as session:

        def look_at_codes(epoch: int) -> None:
            codes = apply(model.encoder, validation)
            if epoch in kept:
                table = latent_histogram(codes, prior).assign(epoch=epoch)
                session.notes["histograms"].append(to_csv(table, header=epoch == 0))
            if epoch in tracked:
                image = to_array(draw_latent_histograms({"aae": codes}, prior))
                session.run.log_image(image, "latent_histogram", epoch)

        session.train(look_at_codes)
        save_model(model, MODEL)
        write_csv(HISTORY, session.history)
        write_text(HISTOGRAMS, "".join(session.notes["histograms"]))
        write_json(METRICS, session.notes["history"][-1])
        session.run.log_model(MODEL, architecture)


if __name__ == "__main__":
    run_stage(main, __doc__)
