"""The batches of a training: everything that a step needs is drawn before the step.

Every kind of random number has a separate stream, and every process draws the numbers for the whole
batch. Therefore the numbers stay the same if another kind is added, or the number of processes
changes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from aae.data import KnownLabels
from aae.data.augmentation import mirrored, random_transforms, scaled, transform
from aae.models import Model
from aae.models.categories import one_hot
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
        known: the labels that the training may see; None if it uses none.
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
        known: KnownLabels | None = None,
    ) -> None:
        self.device, self.model, self.prior = model.device, model, prior
        self.categories = model.architecture.categories
        self.images = images.to(self.device)
        self.validation_images = validation_images.to(self.device)
        self.augment = augment
        self.regularisation_augment = scaled(augment, augment.regularisation)
        self.sets = discriminator_steps
        purposes = ["batch order", "augmentation", "posterior noise"]
        # Known labels of an encoder that emits categories are for the classification phase.
        self.known, self.labelled = known, known is not None and self.categories.from_encoder > 0
        if known:
            self.labels = known.train.to(self.device)
            self.validation_labels = known.validation.to(self.device)
            self.labelled_rows = (known.train >= 0).nonzero().squeeze(1).to(self.device)
        if prior:
            self.prior = prior.to(self.device)
            purposes += [f"{purpose}, regularisation phase" for purpose in purposes[1:]]
            purposes += ["prior samples"]
            purposes += ["category samples"] * (self.categories.from_encoder > 0)
            if self.labelled:
                purposes += ["labelled images", "augmentation, classification phase"]
            count = len(validation_images)
            generator = stream(seed, "prior samples for validation")
            labels = self.validation_labels if known else None
            self.validation_samples = self._prior_samples(count, 1, labels, generator)
            if self.categories.from_encoder:
                generator = stream(seed, "category samples for validation")
                self.validation_categories = self._category_samples(count, 1, generator)
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
            labels: known classes of the images, one-hot [b, K]; zeros for an unknown one. Only for
                a decoder that takes them and an encoder that emits none.
            classes: the same with a further column for "unknown" [b, K + 1], for a discriminator
                that is told them. The prior samples are then of the part of the class.
            category_samples: sets of samples of the categories' prior, one-hot [b, sets, K], for an
                encoder that emits categories.
            labelled_inputs: augmented images [b', C, H, W] with known labels, for the
                classification phase.
            labelled_classes: their classes [b'].
        """
        count, images = len(indices), pixels(self.images[own_rows(indices)])
        inputs, originals = self._augmented(images, count, self.augment, "augmentation")
        targets = originals if self.augment.target == "original" else inputs
        batch = {"inputs": inputs, "targets": targets}
        # With fixed noise the decoder would learn blurred images, so it is trained on the means. A
        # learnt variance and a universal posterior have noise in both phases, as in the paper.
        if not self.model.architecture.posterior.fixed_variance:
            batch |= self._noise(count, "noise", "posterior noise")
        if self.prior:
            phase = "regularisation phase"
            batch["regularised_inputs"], _ = self._augmented(
                images, count, self.regularisation_augment, f"augmentation, {phase}"
            )
            batch |= self._noise(count, "regularised_noise", f"posterior noise, {phase}")
            labels = self.labels[indices] if self.known else None
            samples = self._prior_samples(
                count, self.sets, labels, self.generators["prior samples"]
            )
            batch["prior_samples"] = own_rows(samples)
            if labels is not None:
                batch |= self._classes(own_rows(labels))
            if self.categories.from_encoder:
                samples = self._category_samples(
                    count, self.sets, self.generators["category samples"]
                )
                batch["category_samples"] = own_rows(samples)
            if self.labelled:
                batch |= self._labelled(count)
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
                if self.categories.from_encoder:
                    batch["category_samples"] = self.validation_categories[rows]
                if self.known:
                    labels = self.validation_labels[rows]
                    batch |= self._classes(labels)
                    batch |= {"labelled_inputs": images, "labelled_classes": labels}
            yield batch

    def _prior_samples(
        self, count: int, sets: int, labels: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """Return sets of prior samples in units [count, sets, k], of parts of the prior or all."""
        assert self.prior is not None
        if self.categories.to_discriminator:
            assert labels is not None
            numbers = labels.repeat_interleave(sets)
            samples = self.prior.sample_parts(numbers, self.categories.count, generator)
        else:
            samples = self.prior.sample(count * sets, generator)
        return self.model.units.to_units(samples).unflatten(0, (count, sets))

    def _category_samples(self, count: int, sets: int, generator: torch.Generator) -> Tensor:
        """Return sets of samples of the categories' prior, one-hot [count, sets, K]."""
        numbers = torch.randint(self.categories.count, (count, sets), generator=generator)
        return one_hot(self._moved(numbers), self.categories.count)

    def _classes(self, labels: Tensor) -> dict[str, Tensor]:
        """Return known classes [b] of images, -1 for an unknown one, as the networks take them."""
        count, batch = self.categories.count, {}
        if self.categories.to_decoder and not self.categories.from_encoder:
            batch["labels"] = one_hot(labels, count)
        if self.categories.to_discriminator:
            batch["classes"] = one_hot(torch.where(labels < 0, count, labels), count + 1)
        return batch

    def _labelled(self, count: int) -> dict[str, Tensor]:
        """Return this process's part of ``count`` images with known labels, and their classes."""
        draws = self.generators["labelled images"]
        picked = torch.randint(len(self.labelled_rows), (count,), generator=draws)
        rows = own_rows(self.labelled_rows[self._moved(picked)])
        images, _ = self._augmented(
            pixels(self.images[rows]), count, self.augment, "augmentation, classification phase"
        )
        return {"labelled_inputs": images, "labelled_classes": self.labels[rows]}

    def _augmented(
        self, images: Tensor, count: int, settings: Augment, purpose: str
    ) -> tuple[Tensor, Tensor]:
        """Return augmented copies of this process's images in a batch of ``count``.

        Returns:
            The copies, and their originals: the images, mirrored where the copies are, since the
            decoder cannot know that it should undo the mirroring.
        """
        if not settings.changes_images:
            return images, images
        shape = tuple(images.shape[1:])
        maps = random_transforms(count, shape, settings, self.generators[purpose])
        maps = self._moved(own_rows(maps))
        return transform(images, maps), mirrored(images, maps) if settings.flip else images

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
