"""The training of a model: phases, their loop, devices, processes and snapshots."""

from aae.training.build import adversarial_training, autoencoder_training
from aae.training.loop import Training
from aae.training.warm_start import centre

__all__ = ["Training", "adversarial_training", "autoencoder_training", "centre"]
