"""The trained model as MLflow serves it: one task of several for each request.

A logged model names this module as its loader (https://mlflow.org/docs/latest/ml/model/, "custom
loader module"). It reads the weights from a safetensors file, so that nothing is unpickled.
"""

from pathlib import Path
from typing import Any

import numpy as np

from aae.errors import ModelError, unknown
from aae.models.model import Architecture
from aae.models.trained import TrainedModel, load_trained

# The parameter `task` of a request, and what the model then makes of its inputs.
TASKS = {
    "decode": "codes [N, d] to images [N, C, H, W] with values from 0 to 1",
    "encode": "images [N, C, H, W] with values from 0 to 1 to codes [N, d]",
    "reconstruct": "images to the images that their codes decode to",
    "score": "images to reconstruction_error [N] and typicality [N]",
    "sample": "no inputs, []: n decoded samples of the prior, which the seed determines",
}
# The parameters of a request with their defaults.
DEFAULTS: dict[str, Any] = {"task": "decode", "n": 16, "seed": 0}
WEIGHTS = "model.safetensors"


class ServedModel:
    """A trained model that carries out the task that a request names.

    Args:
        model: the model.

    Example:
        >>> from aae.models import Model
        >>> sizes = Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,))
        >>> served = ServedModel(TrainedModel(Model(sizes, seed=0)))
        >>> served.predict([[0.0, 0.0]]).shape
        (1, 1, 4, 4)
        >>> served.predict(np.zeros((3, 1, 4, 4)), {"task": "encode"}).shape
        (3, 2)
    """

    def __init__(self, model: TrainedModel) -> None:
        self.model = model

    def predict(self, inputs: Any, params: dict[str, Any] | None = None) -> Any:
        """Return what a task makes of inputs: see :data:`TASKS`.

        Args:
            inputs: codes, or images with values from 0 to 1; also uint8 arrays from 0 to 255.
            params: other values than :data:`DEFAULTS`.

        Returns:
            An array; for "score" a list of numbers for each score, with None for a typicality that
            the model cannot have.

        Raises:
            ModelError: if there is no such task, or the model has no prior to draw samples from.
            DataError: if the inputs do not fit.
        """
        chosen = DEFAULTS | (params or {})
        task = chosen["task"]
        if task not in TASKS:
            raise ModelError(f"task: {unknown(task, TASKS, 'a task')}")
        if task == "sample":
            return self.model.sample(int(chosen["n"]), int(chosen["seed"])).numpy()
        array = np.asarray(inputs)
        if array.dtype != np.uint8:
            array = array.astype(np.float32)
        if task == "score":
            scores = self.model.score(array)._asdict()
            return {
                name: [None if np.isnan(x) else x for x in values.tolist()]
                for name, values in scores.items()
            }
        return getattr(self.model, task)(array).numpy()


def requests(architecture: Architecture) -> dict[str, dict[str, Any]]:
    """Return the body of a request for each task, as JSON has it.

    Args:
        architecture: sizes of the codes and images.
    """
    codes, image = [[0.0] * architecture.latent_dim], np.zeros((1, *architecture.image_shape))
    inputs = {"decode": codes, "sample": []}
    return {
        task: {"inputs": inputs.get(task, image.tolist()), "params": DEFAULTS | {"task": task}}
        for task in TASKS
    }


def _load_pyfunc(data_path: str) -> ServedModel:
    """Read a saved model; MLflow looks up this function by its name."""
    return ServedModel(load_trained(Path(data_path) / WEIGHTS))
