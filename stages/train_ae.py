"""Train the autoencoder: reconstruction phase only.

Reads data/prepared; writes models/ae.safetensors, reports/history/ae.csv and
reports/metrics/train_ae.json.
"""

from pathlib import Path
from typing import Any

from aae.models.checkpoints import save_model
from aae.data.data import prepared_meta, read_prepared
from aae.training.devices import training_device
from aae.training.distributed import is_leader
from aae.files import check_writable, write_csv, write_json
from aae.models.networks import Architecture, Model
from aae.params import Params
from aae.pipeline.session import follow, training_session
from aae.pipeline.stage import run_stage
from aae.training.phases import AutoencoderTraining

MODEL = Path("models/ae.safetensors")
HISTORY = Path("reports/history/ae.csv")
METRICS = Path("reports/metrics/train_ae.json")
# Of the parameters, as in dvc.yaml; the data are tracked as well.
DETERMINED_BY: dict[str, Any] = {
    "seed": True, "precision": True, "device": True, "data": True, "latent_dim": True,
    "network": {"hidden"}, "train_ae": True,
}  # fmt: skip


def main(params: Params) -> None:
    """Train, and record every epoch."""
    device = training_device(params.device)
    check_writable(MODEL, HISTORY, METRICS)
    images, validation = read_prepared("train").images, read_prepared("validation").images
    meta = prepared_meta()
    architecture = Architecture(
        image_shape=meta["image_shape"], latent_dim=params.latent_dim, hidden=params.network.hidden
    )
    model = Model(architecture, params.seed).to(device)
    training = AutoencoderTraining(
        model, params.train_ae, images, validation, params.seed, params.precision
    )

    if not is_leader():
        follow(training)
        return

    resolved = {"precision": training.precision, "device": device.type}
    determined_by = params.model_dump(include=DETERMINED_BY) | resolved
    with training_session("train_ae", params, determined_by, training) as session:
        session.train()
        save_model(model, MODEL)
        write_csv(HISTORY, session.history)
        write_json(METRICS, session.notes["history"][-1])
        session.run.log_model(MODEL, architecture)


if __name__ == "__main__":
    run_stage(main, __doc__)
