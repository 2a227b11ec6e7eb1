"""The networks, the model that owns them, and the file that stores it."""

from aae.models.checkpoints import load_model, save_model
from aae.models.kinds import Conv, Mlp, Own
from aae.models.model import Architecture, Model

__all__ = ["Architecture", "Conv", "Mlp", "Model", "Own", "load_model", "save_model"]
