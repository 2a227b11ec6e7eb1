"""Train the autoencoder: reconstruction phase only.

Reads data/prepared; writes models/ae.safetensors, reports/history/ae.csv and
reports/metrics/train_ae.json.
"""

from pathlib import Path

import pandas as pd

from aae.checkpoints import save_model
from aae.data import prepared_digest, prepared_meta, read_prepared
from aae.files import write_csv, write_json
from aae.networks import Architecture, Model
from aae.params import Params
from aae.progress import show_epochs
from aae.runs import training_run
from aae.stage import run_stage
from aae.training import AutoencoderTraining

MODEL = Path("models/ae.safetensors")
HISTORY = Path("reports/history/ae.csv")
METRICS = Path("reports/metrics/train_ae.json")
PARAMS = {"seed", "data", "latent_dim", "network", "train_ae"}


def main(params: Params) -> None:
    """Train, and record every epoch."""
    images, validation = read_prepared("train").images, read_prepared("validation").images
    meta = prepared_meta()
    architecture = Architecture(
        image_shape=meta["image_shape"], latent_dim=params.latent_dim, hidden=params.network.hidden
    )
    model = Model(architecture, params.seed)
    training = AutoencoderTraining(model, params.train_ae, images, validation, params.seed)

    recorded = params.model_dump(include=PARAMS)
    with training_run("train_ae", "none", params.seed, recorded) as run:
        run.log_dataset(meta["source"], prepared_digest())
        history = []
        for losses in show_epochs(training.epochs(), params.train_ae.epochs, "train_ae"):
            history.append(losses)
            run.log_epoch(losses)
        save_model(model, MODEL)
        write_csv(HISTORY, pd.DataFrame(history))
        write_json(METRICS, history[-1])
        run.log_model(MODEL, architecture)


if __name__ == "__main__":
    run_stage(main, __doc__)
