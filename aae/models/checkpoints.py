"""The file of a model: safetensors, with the architecture in its metadata."""

from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from aae.errors import ModelError, ParameterError
from aae.files import replacing
from aae.models.kinds import Own
from aae.models.model import Architecture, Model

# The metadata have only this key, because safetensors would write several keys in an order that
# changes from run to run. Increase the number when older files can no longer be read.
FORMAT = "aae-model-2"


def save_model(model: Model, path: Path) -> None:
    """Write the weights and the architecture; the same model gives the same bytes."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    content = save(tensors, metadata={FORMAT: model.architecture.model_dump_json()})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def load_model(path: Path, own: str | None = None) -> Model:
    """Read a model without executing any code from the file, or any that only the file names.

    Args:
        path: the file.
        own: dotted name of the function that makes a user's own networks, which is imported if the
            file names it too; a file with networks of the project does not need it.

    Raises:
        ModelError: if the file is missing, damaged or of another version, if its tensors do not fit
            its architecture, or if it has own networks other than ``own``.
    """
    try:
        with path.open("rb"):  # safe_open says "No such file" of every file that cannot be opened
            pass
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ModelError(f"{path}: {error}") from error
    if FORMAT not in metadata:
        raise ModelError(
            f"{path}: its metadata have no {FORMAT!r}, so it is not a model of this version"
        )
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise ModelError(f"{path}: {name} is {tensor.dtype}; torch.float32 is expected")
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{path}: {name} holds values that are not finite")
    try:
        architecture = Architecture.model_validate_json(metadata[FORMAT])
        if isinstance(architecture.network, Own) and architecture.network.kind != own:
            name = architecture.network.kind
            raise ModelError(
                f"{path}: its networks are made by the function {name}, which is not imported "
                f"because only the file names it; if you trust it, use load_model(path, "
                f"own={name!r}), network.kind: {name} in params.yaml, or aae … --own {name}"
            )
        model = Model(architecture, seed=None)
        model.load_state_dict(tensors, assign=True)
    except (ValidationError, ParameterError, RuntimeError) as error:
        raise ModelError(f"{path}: {error}") from error
    return model
