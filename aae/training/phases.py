"""The phases of a training: what a step does.

Makhzani et al., *Adversarial Autoencoders*, 2015, section 2, https://arxiv.org/abs/1511.05644:
"the adversarial network and the autoencoder are trained jointly with SGD in two phases – the
reconstruction phase and the regularization phase – executed on each mini-batch".

A training is a list of phases, which aae/training/loop.py carries out one after the other on every
batch. To add a loss, write a function like those below and add a phase to a list at the end of this
file: history, MLflow, progress bar and page show every phase's loss by its name.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aae.models import Model
from aae.params import Precision, TrainAAE, TrainAE
from aae.priors import Prior
from aae.training.batches import Batch


class Loss(NamedTuple):
    """What a phase minimises.

    Attributes:
        value: the loss as it is recorded.
        penalty: what is added to it for the optimiser alone.
    """

    value: Tensor
    penalty: Tensor | float = 0.0


@dataclass
class Step:
    """A batch on its way through the networks.

    Attributes:
        model: the networks.
        batch: what was drawn, see :meth:`aae.training.batches.Batches.draw`.
        precision: "bf16" for passes through the networks in bfloat16.
    """

    model: Model
    batch: Batch
    precision: Precision = "float32"
    _codes: Tensor | None = field(default=None, init=False)

    def run(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """Return a network's float32 outputs, computed in the precision of the training."""
        if self.precision != "bf16":
            return network(inputs)
        with torch.autocast(inputs.device.type, torch.bfloat16):
            return network(inputs).float()

    @property
    def codes(self) -> Tensor:
        """The codes [B, d] of the batch; one pass serves all phases until the encoder changes."""
        if self._codes is None:
            self._codes = self.run(self.model.encoder, self.batch["images"])
        return self._codes

    def after(self, phase: "Phase") -> None:
        """Forget what a phase has made out of date."""
        if self.model.encoder in phase.networks:
            self._codes = None


@dataclass(frozen=True)
class Phase:
    """One update of some networks.

    Attributes:
        name: of its loss in the history, without "_loss".
        networks: the networks that it changes; it changes no other.
        learning_rate: that of its optimiser, before warm-up and decay.
        loss: what it minimises.
    """

    name: str
    networks: tuple[nn.Module, ...]
    learning_rate: float
    loss: Callable[[Step], Loss]


def reconstruction(step: Step) -> Loss:
    """Squared error of reconstructions: moves encoder and decoder."""
    reconstructions = step.run(step.model.decoder, step.codes)
    return Loss(reconstruction_loss(reconstructions, step.batch["images"]))


def discrimination(step: Step, scale: Tensor, gradient_penalty: float) -> Loss:
    """Cross-entropy of telling prior samples from codes: moves the discriminator.

    Args:
        step: the batch.
        scale: standard deviation [d] of the prior.
        gradient_penalty: weight of the penalty on the discriminator's gradient; 0 turns it off.
    """
    prior_samples = step.batch["prior_samples"]
    penalised = gradient_penalty > 0 and torch.is_grad_enabled()
    if penalised:
        prior_samples = prior_samples.detach().requires_grad_()
    discriminator = step.model.discriminator
    assert discriminator is not None
    prior_logits = step.run(discriminator, prior_samples)
    value = discriminator_loss(prior_logits, step.run(discriminator, step.codes.detach()))
    if not penalised:
        return Loss(value)
    # R1 (Mescheder et al. 2018, https://arxiv.org/abs/1801.04406, eq. 9) keeps the discriminator
    # from circling around the equilibrium. In units of the prior its weight means the same for
    # every prior.
    (gradient,) = torch.autograd.grad(prior_logits.sum(), prior_samples, create_graph=True)
    return Loss(value, gradient_penalty * (scale * gradient).square().sum(1).mean())


def generation(step: Step) -> Loss:
    """Cross-entropy of codes being taken for prior samples: moves the encoder."""
    assert step.model.discriminator is not None
    return Loss(generator_loss(step.run(step.model.discriminator, step.codes)))


def reconstruction_loss(reconstructions: Tensor, images: Tensor) -> Tensor:
    """Mean squared error per pixel of reconstructions [N, C, H, W] from 0 to 1."""
    # Image by image first: torch splits the sum over one large tensor among its threads, and the
    # last digits would depend on how many there are.
    return (reconstructions - images).square().flatten(1).mean(1).mean()


def discriminator_loss(prior_logits: Tensor, code_logits: Tensor) -> Tensor:
    """Cross-entropy of telling prior samples (target 1) from codes (target 0), summed over the two.

    Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, eq. 1. At equilibrium 2 ln 2 = 1.386.
    """
    real = F.binary_cross_entropy_with_logits(prior_logits, torch.ones_like(prior_logits))
    fake = F.binary_cross_entropy_with_logits(code_logits, torch.zeros_like(code_logits))
    return real + fake


def generator_loss(code_logits: Tensor) -> Tensor:
    """Cross-entropy of codes being taken for prior samples (target 1).

    The non-saturating form of Goodfellow et al. 2014, section 3. At equilibrium ln 2 = 0.693.
    """
    return F.binary_cross_entropy_with_logits(code_logits, torch.ones_like(code_logits))


def autoencoder_phases(model: Model, settings: TrainAE) -> list[Phase]:
    """Return what a step of an autoencoder does: the reconstruction phase alone.

    Args:
        model: the model that is trained.
        settings: the section ``train_ae`` of params.yaml.
    """
    networks = (model.encoder, model.decoder)
    return [Phase("reconstruction", networks, settings.learning_rate, reconstruction)]


def adversarial_phases(model: Model, prior: Prior, settings: TrainAAE) -> list[Phase]:
    """Return what a step of an adversarial autoencoder does.

    Args:
        model: the model that is trained, on its device; it has a discriminator.
        prior: the distribution that the codes should follow.
        settings: the section ``train_aae`` of params.yaml.
    """
    encoder, decoder, discriminator = model.encoder, model.decoder, model.discriminator
    assert discriminator is not None
    scale, rates = prior.scale.to(model.device), settings.learning_rate
    discriminate = partial(discrimination, scale=scale, gradient_penalty=settings.gradient_penalty)
    return [
        # Reconstruction phase
        Phase("reconstruction", (encoder, decoder), rates.reconstruction, reconstruction),
        # Regularisation phase
        Phase("discriminator", (discriminator,), rates.discriminator, discriminate),
        Phase("generator", (encoder,), rates.generator, generation),
    ]
