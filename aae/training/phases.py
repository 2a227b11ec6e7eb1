"""The reconstruction phase and the regularisation phase; the loop around them is in aae/training/loop.py.

Makhzani et al., *Adversarial Autoencoders*, 2015, section 2, https://arxiv.org/abs/1511.05644:
"the adversarial network and the autoencoder are trained jointly with SGD in two phases – the
reconstruction phase and the regularization phase – executed on each mini-batch".

To add a loss: compute it in `train_batch` and put it into the dict that this returns, and into
`validate`. History and MLflow take every loss that they find there, the progress bar those named
`…_loss`; `draw_losses` in aae/report/figures.py and the plots of dvc.yaml have theirs by name.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from aae.training.distributed import share
from aae.training.loop import Training
from aae.models.networks import CHUNK, Model, apply, pixels, rescale_codes
from aae.params import Precision, TrainAAE, TrainAE
from aae.priors.prior import Prior
from aae.seeding import stream


class AutoencoderTraining(Training):
    """Training of an autoencoder: the reconstruction phase alone.

    Args:
        model: trained in place.
        settings: the section ``train_ae`` of params.yaml.
        images: uint8 training images [N, C, H, W].
        validation_images: uint8 images [M, C, H, W] for the validation losses.
        seed: the seed of params.yaml.
        precision: of params.yaml.
    """

    def __init__(
        self,
        model: Model,
        settings: TrainAE | TrainAAE,
        images: Tensor,
        validation_images: Tensor,
        seed: int,
        precision: Precision = "float32",
    ) -> None:
        super().__init__(model, settings, images, seed, precision)
        self.encoder, self.decoder = model.encoder, model.decoder
        self.validation_images = validation_images.to(self.device)
        rate = settings.learning_rate
        rate = rate if isinstance(rate, float) else rate.reconstruction
        self.add_optimiser("reconstruction", [self.encoder, self.decoder], rate)

    def train_batch(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take one step; return the loss before it."""
        return {"reconstruction_loss": self.reconstruction_step(batch["images"])}

    def reconstruction_step(self, images: Tensor) -> Tensor:
        """Move encoder and decoder towards smaller squared error on images [B, C, H, W]."""
        reconstructions = self.outputs(self.decoder, self.outputs(self.encoder, images))
        return self.descend("reconstruction", reconstruction_loss(reconstructions, images))

    def validate(self) -> dict[str, Tensor]:
        """Return the losses on the validation images."""
        # In parts: all images as floats would take more memory than the training itself.
        parts = self.validation_images.split(CHUNK)
        errors = torch.empty(len(self.validation_images), device=self.device)
        for found, part in zip(errors.split(CHUNK), parts, strict=True):
            reconstructions = apply(self.decoder, apply(self.encoder, part))
            found.copy_(reconstruction_errors(reconstructions, pixels(part)))
        return {"reconstruction_loss": errors.mean()}


class AdversarialTraining(AutoencoderTraining):
    """Training of an adversarial autoencoder: both phases on every mini-batch.

    Each of its three steps has its own optimiser and changes no weight but those it names.

    Args:
        model: trained in place; it has a discriminator.
        prior: the distribution that the codes are to follow.
        settings: the section ``train_aae`` of params.yaml.
        images: uint8 training images [N, C, H, W].
        validation_images: uint8 images [M, C, H, W] for the validation losses.
        seed: the seed of params.yaml.
        precision: of params.yaml.
    """

    settings: TrainAAE

    def __init__(
        self,
        model: Model,
        prior: Prior,
        settings: TrainAAE,
        images: Tensor,
        validation_images: Tensor,
        seed: int,
        precision: Precision = "float32",
    ) -> None:
        super().__init__(model, settings, images, validation_images, seed, precision)
        assert model.discriminator is not None
        self.discriminator = model.discriminator
        self.prior = prior.to(self.device)
        self.generators["prior samples"] = stream(seed, "prior samples")
        self.validation_prior = self.prior.sample(
            len(validation_images), stream(seed, "prior samples for validation")
        )
        rate = settings.learning_rate
        self.add_optimiser("discriminator", [self.discriminator], rate.discriminator)
        self.add_optimiser("generator", [self.encoder], rate.generator)

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        """Return the images of a batch, and as many "prior_samples" [B, d]."""
        samples = self.prior.sample(len(indices), self.generators["prior samples"])
        return super().batch(indices) | {"prior_samples": share(samples)}

    def train_batch(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take three steps; return the losses before them."""
        # Reconstruction phase
        losses = super().train_batch(batch)
        # Regularisation phase. One pass of the encoder serves both of its steps: the first leaves
        # the encoder as it is.
        codes, prior_samples = self.outputs(self.encoder, batch["images"]), batch["prior_samples"]
        losses["discriminator_loss"] = self.discriminator_step(prior_samples, codes.detach())
        losses["generator_loss"] = self.generator_step(codes)
        return losses

    def discriminator_step(self, prior_samples: Tensor, codes: Tensor) -> Tensor:
        """Move the discriminator towards telling prior samples [B, d] from codes [B, d].

        The loss that is returned is the cross-entropy alone, 2 ln 2 when it cannot tell them apart.
        """
        if self.settings.gradient_penalty > 0:
            prior_samples = prior_samples.detach().requires_grad_()
        prior_logits = self.outputs(self.discriminator, prior_samples)
        loss = discriminator_loss(prior_logits, self.outputs(self.discriminator, codes))
        penalty = torch.zeros(())
        if self.settings.gradient_penalty > 0:
            # R1 (Mescheder et al. 2018, https://arxiv.org/abs/1801.04406, eq. 9), in the units of
            # the prior so that its weight means the same for every prior. It keeps the
            # discriminator from circling about the equilibrium.
            (gradient,) = torch.autograd.grad(prior_logits.sum(), prior_samples, create_graph=True)
            squared_norm = (self.prior.scale * gradient).square().sum(1).mean()
            penalty = self.settings.gradient_penalty * squared_norm
        self.descend("discriminator", loss + penalty)
        return loss.detach()

    def generator_step(self, codes: Tensor) -> Tensor:
        """Move the encoder towards codes [B, d] that the discriminator takes for prior samples."""
        loss = generator_loss(self.outputs(self.discriminator, codes))
        return self.descend("generator", loss)

    def validate(self) -> dict[str, Tensor]:
        """Return the losses on the validation images, against the same prior samples each time."""
        logits = apply(self.discriminator, apply(self.encoder, self.validation_images))
        prior_logits = apply(self.discriminator, self.validation_prior)
        return super().validate() | {
            "discriminator_loss": discriminator_loss(prior_logits, logits),
            "generator_loss": generator_loss(logits),
        }


def reconstruction_loss(reconstructions: Tensor, images: Tensor) -> Tensor:
    """Mean squared error per pixel of reconstructions [N, C, H, W] from 0 to 1."""
    # Image by image first: torch shares out the sum over one large tensor among its threads, and
    # the last digits would depend on how many there are.
    return reconstruction_errors(reconstructions, images).mean()


def reconstruction_errors(reconstructions: Tensor, images: Tensor) -> Tensor:
    """Mean squared errors per pixel [N] of each of the reconstructions [N, C, H, W]."""
    return (reconstructions - images).square().flatten(1).mean(1)


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


def initialise(
    model: Model, prior: Prior, settings: TrainAAE, autoencoder: Model, images: Tensor
) -> None:
    """Bring a new adversarial autoencoder to where its training starts.

    With ``standardise`` its networks take codes in units of the prior. With ``init: ae`` encoder
    and decoder are those of the trained autoencoder, their codes rescaled to the prior's mean and
    standard deviation, which leaves the reconstructions as they are.

    Args:
        model: changed in place.
        prior: the distribution that the codes are to follow.
        settings: the section ``train_aae`` of params.yaml.
        autoencoder: the trained autoencoder.
        images: the uint8 images [N, C, H, W] that it was trained on.
    """
    if settings.init == "ae":
        model.encoder.load_state_dict(autoencoder.encoder.state_dict())
        model.decoder.load_state_dict(autoencoder.decoder.state_dict())
        codes = apply(model.encoder, images)
        mean, scale = codes.mean(0), codes.std(0)
        scale = torch.where(scale > 0, scale, 1)  # a dimension that the autoencoder leaves unused
        if not settings.standardise:
            scale = scale / prior.scale
            mean = mean - prior.mean * scale
        rescale_codes(model.encoder, model.decoder, mean, scale)
    if settings.standardise:
        assert model.discriminator is not None
        for network in (model.encoder, model.decoder, model.discriminator):
            network.set_units(prior.mean, prior.scale)
