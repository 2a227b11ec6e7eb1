"""The trained model as MLflow serves it: one task of several for each request.

A logged model names this module as its loader (https://mlflow.org/docs/latest/ml/model/, "custom
loader module"). It reads the weights from a safetensors file, so that nothing is unpickled.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aae.errors import DataError, ModelError, unknown
from aae.models.model import Architecture
from aae.models.trained import TrainedModel, load_trained

# The parameter `task` of a request, and what the model then makes of its inputs.
TASKS = {
    "decode": "codes [N, d] to images [N, C, H, W] with values from 0 to 1",
    "encode": "images [N, C, H, W] with values from 0 to 1 to codes [N, d]",
    "reconstruct": "images to the images that their codes decode to",
    "score": "images to reconstruction_error [N] and typicality [N]",
    "sample": "no inputs, []: n decoded samples of the prior, which the seed determines",
    "classify": "images to the probabilities [N] of each class, under its name",
}
# Tasks with the parameter `label`, the name of a class, for a decoder that takes classes.
LABELLED = ("decode", "reconstruct", "score", "sample")
# The parameters of a request with their defaults.
DEFAULTS: dict[str, Any] = {"task": "decode", "n": 16, "seed": 0, "label": ""}
MOST_SAMPLES = 10_000
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
            inputs: codes, or images with values from 0 to 1; also uint8 arrays from 0 to 255. A
                table of codes may have a column "class".
            params: other values than :data:`DEFAULTS`.

        Returns:
            An array; for "score" and "classify" a list of numbers for each score or class, with
            None for a typicality that the model cannot have.

        Raises:
            ModelError: if there is no such task, the model has no prior to draw samples from, or
                it does not find classes, or too many samples are wanted.
            DataError: if the inputs or the label do not fit.
        """
        chosen = DEFAULTS | (params or {})
        task = chosen["task"]
        if task not in TASKS:
            raise ModelError(f"task: {unknown(task, TASKS, 'a task')}")
        label = chosen["label"] or None
        if task == "sample":
            if (n := int(chosen["n"])) > MOST_SAMPLES:
                raise ModelError(f"n: {n} samples; a request gives at most {MOST_SAMPLES:,}")
            return self.model.sample(n, int(chosen["seed"]), label).numpy()
        if isinstance(inputs, pd.DataFrame) and "class" in inputs:
            if self.model.architecture.categories.to_decoder:
                label = label or inputs["class"].astype(str).tolist()
            inputs = inputs.drop(columns="class")
        try:
            array = np.asarray(inputs)
            if array.dtype != np.uint8:
                array = array.astype(np.float32)
        except (TypeError, ValueError) as error:  # lists of different lengths, or texts
            raise DataError(f"inputs: {error}; an array of numbers is needed") from error
        if task == "score":
            scores = self.model.score(array, label)._asdict()
            return {
                name: [None if np.isnan(x) else x for x in values.tolist()]
                for name, values in scores.items()
            }
        if task == "classify":
            probabilities = self.model.classify(array).T.tolist()
            return dict(zip(self.model.class_names, probabilities, strict=True))
        if task == "encode":
            return self.model.encode(array).numpy()
        return getattr(self.model, task)(array, label).numpy()


def tasks_of(architecture: Architecture) -> dict[str, str]:
    """Return the tasks among :data:`TASKS` that a model of an architecture can carry out.

    Args:
        architecture: whether the model has a prior, and finds classes.
    """
    possible = {"sample": architecture.prior, "classify": architecture.categories.from_encoder}
    return {task: text for task, text in TASKS.items() if possible.get(task, True)}


def requests(architecture: Architecture) -> dict[str, dict[str, Any]]:
    """Return the body of a request for each task that the model can carry out, as JSON has it.

    Args:
        architecture: sizes of the codes and images, and classes.
    """
    codes, image = [[0.0] * architecture.latent_dim], np.zeros((1, *architecture.image_shape))
    inputs = {"decode": codes, "sample": []}
    categories = architecture.categories
    label = categories.titles[0] if categories.to_decoder else ""
    return {
        task: {
            "inputs": inputs.get(task, image.tolist()),
            "params": DEFAULTS | {"task": task, "label": label if task in LABELLED else ""},
        }
        for task in tasks_of(architecture)
    }


def _load_pyfunc(data_path: str) -> ServedModel:
    """Read a saved model; MLflow looks up this function by its name."""
    return ServedModel(load_trained(Path(data_path) / WEIGHTS))
