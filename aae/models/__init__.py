"""The networks, the model that owns them, the file that stores it, and the trained model."""

from aae.models.checkpoints import load_model, save_model
from aae.models.kinds import Conv, Mlp, Own
from aae.models.model import Architecture, Model
from aae.models.trained import Scores, TrainedModel

__all__ = [
    "Architecture", "Conv", "Mlp", "Model", "Own", "Scores", "TrainedModel", "load_model",
    "save_model",
]  # fmt: skip
