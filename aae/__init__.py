"""Adversarial autoencoders: an autoencoder whose codes follow a prior of your choice.

Makhzani et al., *Adversarial Autoencoders*, 2015, https://arxiv.org/abs/1511.05644.

Example:
    >>> import aae
    >>> aae.Architecture(image_shape=(1, 28, 28), latent_dim=2, hidden=(1000,)).latent_dim
    2
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aae.models import Architecture, Model
    from aae.models import load_model as load
    from aae.priors import Prior

__all__ = ["Architecture", "Model", "Prior", "load"]

_HOMES = {
    "Architecture": ("aae.models", "Architecture"),
    "Model": ("aae.models", "Model"),
    "Prior": ("aae.priors", "Prior"),
    "load": ("aae.models", "load_model"),
}


def __getattr__(name: str) -> Any:
    """Import a name at its first use, since importing torch alone takes more than a second."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
