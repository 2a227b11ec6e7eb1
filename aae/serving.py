"""The decoder as an MLflow model: codes in, images out.

MLflow runs this file when it loads the model (https://mlflow.org/docs/latest/ml/model/models-from-code/);
the weights come from a safetensors file. So nothing is unpickled.
"""

from pathlib import Path

import mlflow
import numpy as np
import torch
from mlflow.pyfunc import PythonModel, PythonModelContext

from aae.checkpoints import load_model
from aae.networks import apply


class DecoderModel(PythonModel):
    """Decodes codes [N, d] into images [N, C, H, W] with values from 0 to 1."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the weights."""
        self.decoder = load_model(Path(context.artifacts["weights"])).decoder

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002
        model_input,  # without a type: MLflow would take it for a schema
        params: dict | None = None,  # noqa: ARG002
    ) -> np.ndarray:
        """Return the images of codes, given as an array or as {"codes": array}."""
        codes = model_input["codes"] if isinstance(model_input, dict) else model_input
        return apply(self.decoder, torch.as_tensor(np.asarray(codes, np.float32))).numpy()


mlflow.models.set_model(DecoderModel())
