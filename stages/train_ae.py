"""Train the autoencoder, with the reconstruction phase only.

Reads data/prepared; writes models/ae.safetensors, reports/history/ae.csv and
reports/metrics/train_ae.json.
"""

from pathlib import Path

from aae.pipeline.stage import run_stage
from aae.data import check_labels, prepared_meta, read_prepared
from aae.files import check_writable, write_csv, write_json
from aae.models import save_model
from aae.params import Params
from aae.pipeline.session import follow, training_session
from aae.training import autoencoder_training
from aae.training.distributed import is_leader

MODEL = Path("models/ae.safetensors")
HISTORY = Path("reports/history/ae.csv")
METRICS = Path("reports/metrics/train_ae.json")


def main(params: Params) -> None:
    """Train the model and record every epoch."""
    check_writable(MODEL, HISTORY, METRICS)
    train, validation = read_prepared("train"), read_prepared("validation")
    # This training uses no labels, but the next one, which needs them, would refuse only then.
    check_labels(train.labels, len(prepared_meta()["class_names"]), params)
    training = autoencoder_training(params, train.images, validation.images)

    if not is_leader():
        follow(training)
        return

    with training_session("train_ae", params, training, reused=True) as session:
        session.train()
        save_model(training.averaged, MODEL)
        write_csv(HISTORY, session.history)
        write_json(METRICS, session.notes["history"][-1])
        session.run.log_model(MODEL, training.model.architecture)


if __name__ == "__main__":
    run_stage(main, __doc__)
