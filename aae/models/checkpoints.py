"""The saved model: a safetensors file with all that is needed to build the networks again."""

from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from aae.errors import ModelError
from aae.files import replacing
from aae.models.networks import Architecture, Model

# The one key of the metadata. Its number changes when older files can no longer be read.
# (One key, since safetensors writes several in an order that changes from run to run.)
FORMAT = "aae-model-1"


def save_model(model: Model, path: Path) -> None:
    """Write weights and architecture, the same bytes for the same model."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    content = save(tensors, metadata={FORMAT: model.architecture.model_dump_json()})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def load_model(path: Path) -> Model:
    """Read a model; nothing in the file is run.

    Raises:
        ModelError: if the file is missing, damaged, of another version, or its tensors are not
            those of its architecture.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: {error}") from error
    if FORMAT not in metadata:
        raise ModelError(f"{path}: its metadata has no {FORMAT!r}, it is no model of this version")
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise ModelError(f"{path}: {name} is {tensor.dtype}, torch.float32 is expected")
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{path}: {name} holds values that are not finite")
    try:
        model = Model(Architecture.model_validate_json(metadata[FORMAT]), seed=None)
        model.load_state_dict(tensors, assign=True)
    except (ValidationError, RuntimeError) as error:
        raise ModelError(f"{path}: {error}") from error
    return model
