"""Adversarial autoencoders: an autoencoder whose codes follow a prior of your choice.

Makhzani et al., *Adversarial Autoencoders*, 2015, https://arxiv.org/abs/1511.05644.

Example:
    >>> import aae
    >>> aae.Architecture(image_shape=(1, 28, 28), latent_dim=2, hidden=(1000,)).latent_dim
    2
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aae.models import Architecture, Model, TrainedModel
    from aae.priors import Prior

__all__ = ["Architecture", "Model", "Prior", "TrainedModel", "load"]

_HOMES = {
    "Architecture": "aae.models",
    "Model": "aae.models",
    "Prior": "aae.priors",
    "TrainedModel": "aae.models",
}


def load(source: str | Path, device: str = "cpu", own: str | None = None) -> "TrainedModel":
    """Load a trained model, from a file or from MLflow; no code from the file is executed.

    Args:
        source: a model file, such as models/aae.safetensors, or the address of a logged model,
            models:/… or runs:/…, in the store that MLFLOW_TRACKING_URI names, or else in that of
            the repository.
        device: "cpu", "cuda" or "cuda:1".
        own: dotted name of the function that made the networks, if they are a user's own.

    Raises:
        ModelError: if the file is missing or damaged, or there is no such device.
        TrackingError: if MLflow has no such model, or does not answer.

    Example:
        >>> import aae, tempfile
        >>> from aae.models import save_model
        >>> architecture = aae.Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,))
        >>> path = Path(tempfile.mkdtemp()) / "ae.safetensors"
        >>> save_model(aae.Model(architecture, seed=0), path)
        >>> aae.load(path).image_shape
        (1, 4, 4)
    """
    from aae.models.trained import load_trained

    if not str(source).startswith(("models:/", "runs:/")):
        return load_trained(source, device, own)
    from aae.tracking.store import logged_weights

    with logged_weights(str(source)) as path:
        return load_trained(path, device, own)


def __getattr__(name: str) -> Any:
    """Import a name at its first use, since importing torch alone takes more than a second."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
