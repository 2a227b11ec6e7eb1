"""The phases of a training: the losses and updates of a step.

Makhzani et al., *Adversarial Autoencoders*, 2015, section 2, https://arxiv.org/abs/1511.05644:
"the adversarial network and the autoencoder are trained jointly with SGD in two phases – the
reconstruction phase and the regularization phase – executed on each mini-batch". The paper's
regularisation phase consists of two updates, the discriminator's and the generator's. Each of them
is a :class:`Phase` here.

A training has a list of phases, which aae/training/loop.py carries out in order on every batch. To
add a loss, write a function like those below, add a phase to a list at the end of this module, and
give it a learning rate (:class:`aae.params.LearningRates` and params.yaml). History, MLflow,
progress bar and page then show its loss by its name.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aae.models import Model
from aae.params import Labels, Precision, TrainAAE, TrainAE
from aae.training.batches import Batch


class Loss(NamedTuple):
    """The loss that a phase minimises.

    Attributes:
        value: the recorded loss.
        penalty: a term that is minimised with the loss, but not recorded.
    """

    value: Tensor
    penalty: Tensor | float = 0.0


@dataclass
class Step:
    """One step: a batch and its passes through the networks.

    Attributes:
        model: the networks.
        batch: the batch, see :meth:`aae.training.batches.Batches.draw`.
        precision: "bf16" for passes through the networks in bfloat16.
        turn: how many updates the current phase has already carried out in this step.
    """

    model: Model
    batch: Batch
    precision: Precision = "float32"
    turn: int = field(default=0, init=False)
    _heads: tuple[Tensor, Tensor] | None = field(default=None, init=False)

    def run(self, network: nn.Module, *inputs: Tensor | None) -> Tensor:
        """Return a network's float32 outputs, computed in the precision of the training."""
        with self._in_precision():
            return network(*inputs).float()

    def encode(self, images: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the codes [B, k] in units, and the logits [B, K] of the categories."""
        with self._in_precision():
            codes, logits = self.model.encoder.heads(images, noise)
        return codes.float(), logits.float()

    def _in_precision(self) -> AbstractContextManager:
        if self.precision != "bf16":
            return nullcontext()
        return torch.autocast(self.model.device.type, torch.bfloat16)

    @property
    def codes(self) -> Tensor:
        """The codes of the regularisation phase, in units [B, k]."""
        return self._regularised()[0]

    @property
    def categories(self) -> Tensor:
        """The probabilities [B, K] of the categories in the regularisation phase."""
        return self._regularised()[1].softmax(1)

    def _regularised(self) -> tuple[Tensor, Tensor]:
        """Encode the images of the regularisation phase.

        The updates of the phase share the result until the encoder changes.
        """
        if self._heads is None:
            images, noise = self.batch["regularised_inputs"], self.batch.get("regularised_noise")
            self._heads = self.encode(images, noise)
        return self._heads

    def after(self, phase: "Phase") -> None:
        """Discard the codes after a phase that has changed the encoder."""
        if self.model.encoder in phase.networks:
            self._heads = None


@dataclass(frozen=True)
class Phase:
    """One loss, and the updates of the networks that minimise it.

    Attributes:
        name: name of its loss in the history, without "_loss".
        networks: the networks that it changes, and no others; its loss must reach all of their
            weights.
        learning_rate: learning rate of its optimiser, before warm-up and decay.
        loss: the loss that it minimises.
        updates: number of updates in a step.
        validated: whether the validation images have what its loss needs.
    """

    name: str
    networks: tuple[nn.Module, ...]
    learning_rate: float
    loss: Callable[[Step], Loss]
    updates: int = 1
    validated: bool = True


def reconstruction(step: Step) -> Loss:
    """Return the squared error of the reconstructions, which trains encoder and decoder.

    The decoder takes the code and, with ``labels.use: decoder`` (section 4), the label.
    """
    codes, _ = step.encode(step.batch["inputs"], step.batch.get("noise"))
    reconstructions = step.run(step.model.decoder, codes, step.batch.get("labels"))
    return Loss(reconstruction_loss(reconstructions, step.batch["targets"]))


def category_reconstruction(step: Step) -> Loss:
    """Return the squared error of reconstructions of code and category (sections 5 and 6)."""
    codes, logits = step.encode(step.batch["inputs"], step.batch.get("noise"))
    reconstructions = step.run(step.model.decoder, codes, logits.softmax(1))
    return Loss(reconstruction_loss(reconstructions, step.batch["targets"]))


def discrimination(step: Step, gradient_penalty: float) -> Loss:
    """Return the cross-entropy of prior samples against codes, which trains the discriminator.

    The discriminator may be told the class of each image (section 2.3).

    Args:
        step: the batch.
        gradient_penalty: weight of the penalty on the discriminator's gradient; 0 turns it off.
    """
    assert step.model.discriminator is not None
    samples, classes = step.batch["prior_samples"], step.batch.get("classes")
    return _discrimination(
        step, step.model.discriminator, samples, step.codes, gradient_penalty, classes
    )


def category_discrimination(step: Step, gradient_penalty: float) -> Loss:
    """Return the cross-entropy of samples of the categories' prior against categories.

    It trains the second discriminator (sections 5 and 6); see :func:`discrimination`.
    """
    assert step.model.category_discriminator is not None
    return _discrimination(
        step,
        step.model.category_discriminator,
        step.batch["category_samples"],
        step.categories,
        gradient_penalty,
    )


def _discrimination(
    step: Step,
    discriminator: nn.Module,
    samples: Tensor,
    outputs: Tensor,
    gradient_penalty: float,
    classes: Tensor | None = None,
) -> Loss:
    """Return the loss of a discriminator of samples [B, sets, k] and outputs [B, k]."""
    samples = samples[:, step.turn]
    penalised = gradient_penalty > 0 and torch.is_grad_enabled()
    if penalised:
        samples = samples.detach().requires_grad_()
    sample_logits = step.run(discriminator, samples, classes)
    value = discriminator_loss(sample_logits, step.run(discriminator, outputs.detach(), classes))
    if not penalised:
        return Loss(value)
    # R1 (Mescheder et al. 2018, https://arxiv.org/abs/1801.04406, eq. 9) keeps the discriminator
    # from circling around the equilibrium. In units its weight has the same effect for every prior.
    (gradient,) = torch.autograd.grad(sample_logits.sum(), samples, create_graph=True)
    return Loss(value, gradient_penalty * gradient.square().sum(1).mean())


def generation(step: Step) -> Loss:
    """Return the cross-entropy of codes as prior samples, which trains the encoder."""
    assert step.model.discriminator is not None
    logits = step.run(step.model.discriminator, step.codes, step.batch.get("classes"))
    return Loss(generator_loss(logits))


def category_generation(step: Step) -> Loss:
    """Return the cross-entropy of categories as samples of their prior; it trains the encoder."""
    assert step.model.category_discriminator is not None
    return Loss(generator_loss(step.run(step.model.category_discriminator, step.categories)))


def classification(step: Step) -> Loss:
    """Return the cross-entropy of the classes of labelled images, which trains the encoder."""
    _, logits = step.encode(step.batch["labelled_inputs"])
    return Loss(F.cross_entropy(logits, step.batch["labelled_classes"]))


def reconstruction_loss(reconstructions: Tensor, images: Tensor) -> Tensor:
    """Return the mean squared error per pixel of reconstructions [N, C, H, W] from 0 to 1."""
    # Image by image first: torch splits the sum over one large tensor among its threads, and the
    # last digits would depend on the number of threads.
    return (reconstructions - images).square().flatten(1).mean(1).mean()


def discriminator_loss(prior_logits: Tensor, code_logits: Tensor) -> Tensor:
    """Return the sum of the cross-entropies of prior samples (target 1) and of codes (target 0).

    Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, eq. 1. Its value at the equilibrium is
    2 ln 2 = 1.386.
    """
    real = F.binary_cross_entropy_with_logits(prior_logits, torch.ones_like(prior_logits))
    fake = F.binary_cross_entropy_with_logits(code_logits, torch.zeros_like(code_logits))
    return real + fake


def generator_loss(code_logits: Tensor) -> Tensor:
    """Return the cross-entropy of codes with the target of prior samples (1).

    This is the non-saturating form of Goodfellow et al. 2014, section 3. Its value at the
    equilibrium is ln 2 = 0.693.
    """
    return F.binary_cross_entropy_with_logits(code_logits, torch.ones_like(code_logits))


def autoencoder_phases(model: Model, settings: TrainAE) -> list[Phase]:
    """Return the phases of an autoencoder: the reconstruction phase alone.

    Args:
        model: the model that is trained.
        settings: the section ``train_ae`` of params.yaml.
    """
    networks = (model.encoder, model.decoder)
    return [Phase("reconstruction", networks, settings.learning_rate, reconstruction)]


def adversarial_phases(model: Model, settings: TrainAAE, labels: Labels) -> list[Phase]:
    """Return the phases of an adversarial autoencoder.

    Args:
        model: the model that is trained; it has the discriminators that ``labels`` needs.
        settings: the section ``train_aae`` of params.yaml.
        labels: the section ``labels`` of params.yaml, whose ``use`` chooses the variant.
    """
    encoder, decoder, discriminator = model.encoder, model.decoder, model.discriminator
    assert discriminator is not None
    rates, steps = settings.learning_rate, settings.discriminator_steps
    category_discriminator = model.category_discriminator
    reconstruct = reconstruction if category_discriminator is None else category_reconstruction
    discriminate = partial(discrimination, gradient_penalty=settings.gradient_penalty)
    phases = [
        # The paper's reconstruction phase
        Phase("reconstruction", (encoder, decoder), rates.reconstruction, reconstruct),
        # The paper's regularisation phase
        Phase("discriminator", (discriminator,), rates.discriminator, discriminate, steps),
        Phase("generator", (encoder,), rates.generator, generation),
    ]
    if category_discriminator is not None:
        # The same for the categories that the encoder emits (sections 5 and 6)
        discriminate = partial(
            category_discrimination, gradient_penalty=settings.category_gradient_penalty
        )
        rate = rates.category_discriminator
        phases += [
            Phase("category_discriminator", (category_discriminator,), rate, discriminate, steps),
            Phase("category_generator", (encoder,), rates.category_generator, category_generation),
        ]
    if labels.use == "semi-supervised":
        # The semi-supervised classification phase (section 5). If `labels.count` limits the labels,
        # none of a validation image is known.
        phases += [
            Phase(
                "classification", (encoder,), rates.classification, classification,
                validated=labels.count is None,
            )
        ]  # fmt: skip
    return phases
