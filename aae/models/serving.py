"""The decoder p(x|z) as MLflow serves it: from codes to images.

A logged model names this module as its loader (https://mlflow.org/docs/latest/ml/model/, "custom
loader module"). It reads the weights from a safetensors file, so that nothing is unpickled.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aae.models.checkpoints import load_model
from aae.models.model import Model


class ServedDecoder:
    """A decoder of codes [N, d] into images [N, C, H, W] with values from 0 to 1."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(
        self,
        codes: NDArray[np.float32],
        params: dict[str, Any] | None = None,  # noqa: ARG002 (MLflow passes it)
    ) -> NDArray[np.float32]:
        """Return the images that are decoded from codes."""
        return self.model.decode(torch.from_numpy(np.asarray(codes, np.float32))).numpy()


def _load_pyfunc(data_path: str) -> ServedDecoder:
    """Read a saved model; MLflow looks up this function by its name."""
    return ServedDecoder(load_model(Path(data_path)))
