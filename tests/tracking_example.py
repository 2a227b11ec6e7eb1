"""A training that records all kinds of records, for tests that interrupt it."""

from pathlib import Path

import numpy as np
from support import training_run

from aae.models import Architecture, Model, save_model

ARCHITECTURE = Architecture(image_shape=(1, 4, 4), latent_dim=3, hidden=(8,))
EPOCHS = 6


def train(weights: Path, at_epoch: dict, training: str | None = None, done: int = 0) -> None:
    """Run a training that records all kinds of records; events happen before some epochs.

    Of the epochs before it was killed, it knows only the losses.
    """
    save_model(Model(ARCHITECTURE, seed=0), weights)
    with training_run("train_aae", "gamma", 0, {"seed": 0}, training) as tracked:
        tracked.log_dataset("mnist", "d" * 64)
        for epoch in range(1, EPOCHS + 1):
            at_epoch.get(epoch, lambda: None)()
            tracked.log_epoch({"epoch": epoch, "generator_loss": 1 / epoch})
            if epoch <= done:
                continue
            tracked.log_image(np.full((8, 9, 3), epoch, np.uint8), "latent_histogram", epoch)
        tracked.log_model(weights, ARCHITECTURE)
