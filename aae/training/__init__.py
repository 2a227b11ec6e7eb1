"""The training of a model: phases, their loop, devices, processes and snapshots."""

from aae.training.batches import Batches
from aae.training.loop import Training
from aae.training.phases import adversarial_phases, autoencoder_phases
from aae.training.warm_start import initialise

__all__ = ["Batches", "Training", "adversarial_phases", "autoencoder_phases", "initialise"]
