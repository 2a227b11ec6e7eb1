"""Train the autoencoder, with the reconstruction phase only.

Reads data/prepared; writes models/ae.safetensors, reports/history/ae.csv and
reports/metrics/train_ae.json.
"""

from pathlib import Path

from aae.pipeline.stage import run_stage
from aae.data import prepared_meta, read_prepared
from aae.files import check_writable, write_csv, write_json
from aae.models import Architecture, Model, save_model
from aae.params import Params
from aae.pipeline.session import follow, training_session
from aae.training import Batches, Training, autoencoder_phases
from aae.training.devices import training_device
from aae.training.distributed import is_leader

MODEL = Path("models/ae.safetensors")
HISTORY = Path("reports/history/ae.csv")
METRICS = Path("reports/metrics/train_ae.json")


def main(params: Params) -> None:
    """Train the model and record every epoch."""
    check_writable(MODEL, HISTORY, METRICS)
    images, validation = read_prepared("train").images, read_prepared("validation").images
    architecture = Architecture(
        image_shape=prepared_meta()["image_shape"],
        latent_dim=params.latent_dim,
        hidden=params.network.hidden,
    )
    model = Model(architecture, params.seed).to(training_device(params.device))
    batches = Batches(images, validation, None, params.seed, model.device)
    phases = autoencoder_phases(model, params.train_ae)
    training = Training(model, phases, batches, params.train_ae, params.precision)

    if not is_leader():
        follow(training)
        return

    with training_session("train_ae", params, training, reused=True) as session:
        session.train()
        save_model(model, MODEL)
        write_csv(HISTORY, session.history)
        write_json(METRICS, session.notes["history"][-1])
        session.run.log_model(MODEL, architecture)


if __name__ == "__main__":
    run_stage(main, __doc__)
