"""Train the adversarial autoencoder, with reconstruction and regularisation phase on every batch.

Reads data/prepared and models/ae.safetensors; writes models/aae.safetensors,
reports/history/aae.csv, reports/history/aae_histograms.csv and reports/metrics/train_aae.json.
"""

import math
from pathlib import Path

from aae.pipeline.stage import run_stage
from aae.data import known_labels, prepared_meta, read_prepared
from aae.evaluation.histograms import latent_histogram
from aae.files import check_writable, to_csv, write_csv, write_json, write_text
from aae.models import load_model, save_model
from aae.params import Params
from aae.pipeline.session import follow, training_session
from aae.priors import chosen_prior
from aae.report.figures import draw_latent_histograms, to_array
from aae.seeding import stream
from aae.training import adversarial_training, centre
from aae.training.distributed import is_leader

AUTOENCODER = Path("models/ae.safetensors")
MODEL = Path("models/aae.safetensors")
HISTORY = Path("reports/history/aae.csv")
HISTOGRAMS = Path("reports/history/aae_histograms.csv")
METRICS = Path("reports/metrics/train_aae.json")
# The page shows a latent histogram after each of these shares of the training.
ON_PAGE = (0.0, 0.02, 0.1, 0.2, 0.5, 1.0)


def main(params: Params) -> None:
    """Train the model and record every epoch."""
    check_writable(MODEL, HISTORY, HISTOGRAMS, METRICS)
    train, validation = read_prepared("train"), read_prepared("validation")
    class_names = prepared_meta()["class_names"]
    known = known_labels(train, validation, class_names, params)
    prior, autoencoder = chosen_prior(params), load_model(AUTOENCODER, params.network.kind)
    training = adversarial_training(params, train.images, validation.images, autoencoder, known)
    model = training.averaged

    if not is_leader():
        follow(training)
        return

    epochs, every = params.train_aae.epochs, params.tracking.histogram_every
    tracked = {0, 1, epochs, *range(0, epochs, every)}
    on_page = {math.ceil(share * epochs) for share in ON_PAGE}
    with training_session("train_aae", params, training, "histograms") as session:
        noise = model.noise(len(validation), stream(params.seed, "posterior noise for histograms"))

        def look_at_codes(epoch: int) -> None:
            if epoch not in on_page | tracked:
                return
            codes = model.encode(validation.images, noise)
            if epoch in on_page:
                table = latent_histogram(codes, prior).assign(epoch=epoch)
                session.notes["histograms"].append(to_csv(table, header=epoch == 0))
            if epoch in tracked:
                image = to_array(draw_latent_histograms({"aae": codes}, prior))
                session.run.log_image(image, "latent_histogram", epoch)

        session.train(look_at_codes)
        centre(model, train.images)
        save_model(model, MODEL)
        write_csv(HISTORY, session.history)
        write_text(HISTOGRAMS, "".join(session.notes["histograms"]))
        write_json(METRICS, session.notes["history"][-1])
        session.run.log_model(MODEL, model.architecture)


if __name__ == "__main__":
    run_stage(main, __doc__)
