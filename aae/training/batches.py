"""The batches of a training: everything that a step needs is drawn before the step.

Every kind of random number has a separate stream, and every process draws the numbers for the whole
batch. Therefore neither a new kind nor another number of processes changes the numbers.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from aae.data.augmentation import random_transforms, scaled, transform
from aae.models import Model
from aae.models.networks import chunk, pixels
from aae.params import Augment
from aae.priors import Prior
from aae.seeding import stream
from aae.training.distributed import own_rows

# Maps names to tensors, see :meth:`Batches.draw`.
Batch = Mapping[str, Tensor]


class Batches:
    """Draws the batches of a training.

    Args:
        images: uint8 training images [N, C, H, W].
        validation_images: uint8 images [M, C, H, W] that the training does not see.
        model: the model that is trained, already on its device.
        augment: the section ``augment`` of params.yaml.
        seed: the seed of params.yaml.
        prior: the distribution that the codes should follow; None for an autoencoder.
        discriminator_steps: number of sets of prior samples in a batch.
    """

    def __init__(
        self,
        images: Tensor,
        validation_images: Tensor,
        model: Model,
        augment: Augment,
        seed: int,
        prior: Prior | None = None,
        discriminator_steps: int = 1,
    ) -> None:
        self.device, self.model, self.prior = model.device, model, prior
        self.images = images.to(self.device)
        self.validation_images = validation_images.to(self.device)
        self.augment = augment
        self.regularisation_augment = scaled(augment, augment.regularisation)
        self.sets = discriminator_steps
        purposes = ["batch order", "augmentation", "posterior noise"]
        if prior:
            self.prior = prior.to(self.device)
            purposes += [f"{purpose}, regularisation phase" for purpose in purposes[1:]]
            purposes += ["prior samples"]
            count = len(validation_images)
            samples = self.prior.sample(count, stream(seed, "prior samples for validation"))
            self.validation_samples = model.units.to_units(samples)[:, None]
            noise = model.noise(count, stream(seed, "posterior noise for validation"))
            self.validation_noise = None if noise is None else noise.to(self.device)
        self.generators = {purpose: stream(seed, purpose) for purpose in purposes}
        self.epoch_began = self.generators["batch order"].get_state()

    def __len__(self) -> int:
        return len(self.images)

    def order(self) -> Tensor:
        """Return the order [N] of the images in the next epoch."""
        self.epoch_began = self.generators["batch order"].get_state()
        order = torch.randperm(len(self.images), generator=self.generators["batch order"])
        return order.to(self.device)

    def draw(self, indices: Tensor) -> Batch:
        """Draw a batch and return this process's rows of it.

        Args:
            indices: indices [B] of the images in the batch.

        Returns:
            inputs: augmented images [b, C, H, W] from 0 to 1, which the reconstruction phase
                encodes.
            targets: the images [b, C, H, W] that it should decode.
            noise: noise [b, k] of a posterior that learns its variance or its shape.
            regularised_inputs: augmented images [b, C, H, W], which the regularisation phase
                encodes; with a prior only, like the next two.
            regularised_noise: noise [b, k] of a stochastic posterior.
            prior_samples: sets of prior samples in units [b, sets, k].
        """
        count, images = len(indices), pixels(self.images[own_rows(indices)])
        inputs = self._augmented(images, count, self.augment, "augmentation")
        original = self.augment.target == "original"
        batch = {"inputs": inputs, "targets": images if original else inputs}
        # A decoder of fixed noise would blur: it is trained on the means. A variance that is learnt
        # is learnt from both phases, as in the paper.
        if not self.model.architecture.posterior.fixed_variance:
            batch |= self._noise(count, "noise", "posterior noise")
        if self.prior:
            phase = "regularisation phase"
            batch["regularised_inputs"] = self._augmented(
                images, count, self.regularisation_augment, f"augmentation, {phase}"
            )
            batch |= self._noise(count, "regularised_noise", f"posterior noise, {phase}")
            samples = self.prior.sample(count * self.sets, self.generators["prior samples"])
            units = self.model.units.to_units(samples).unflatten(0, (count, self.sets))
            batch["prior_samples"] = own_rows(units)
        return batch

    def validation(self) -> Iterator[Batch]:
        """Yield the validation images in parts, with the same samples every time.

        The images are unchanged, and their reconstructions without noise.
        """
        # As floats, all images together would take more memory than the training.
        size = chunk(self.validation_images.shape[1:])
        for start in range(0, len(self.validation_images), size):
            rows = slice(start, start + size)
            images = pixels(self.validation_images[rows])
            batch = {"inputs": images, "targets": images}
            if self.prior:
                batch |= {
                    "regularised_inputs": images, "prior_samples": self.validation_samples[rows]
                }  # fmt: skip
                if self.validation_noise is not None:
                    batch["regularised_noise"] = self.validation_noise[rows]
            yield batch

    def _augmented(self, images: Tensor, count: int, settings: Augment, purpose: str) -> Tensor:
        """Return augmented copies of this process's images in a batch of ``count``."""
        if not settings.changes_images:
            return images
        shape = tuple(images.shape[1:])
        maps = random_transforms(count, shape, settings, self.generators[purpose])
        return transform(images, self._moved(own_rows(maps)))

    def _noise(self, count: int, key: str, purpose: str) -> dict[str, Tensor]:
        """Return noise for this process's images in a batch of ``count`` under a key."""
        noise = self.model.noise(count, self.generators[purpose])
        return {} if noise is None else {key: self._moved(own_rows(noise))}

    def _moved(self, numbers: Tensor) -> Tensor:
        """Return numbers on the training's device, without waiting for a GPU."""
        if self.device.type == "cuda":
            numbers = numbers.pin_memory()
        return numbers.to(self.device, non_blocking=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every stream; that of the order is the one at the epoch's start."""
        states = {name: generator.get_state() for name, generator in self.generators.items()}
        return states | {"batch order": self.epoch_began}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that :meth:`state_dict` has returned."""
        for name, generator in self.generators.items():
            generator.set_state(state[name])
        self.epoch_began = state["batch order"]
