"""A trained model: images to codes, classes and back, samples, and how unusual an image is."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from aae.errors import DataError, ModelError
from aae.models.checkpoints import load_model
from aae.models.inputs import (
    Classes,
    Codes,
    Images,
    checked_codes,
    checked_labels,
    checked_values,
    needed,
    shaped_images,
)
from aae.models.model import Architecture, Model
from aae.models.networks import CHUNK, pixels
from aae.priors import Prior
from aae.seeding import stream


class Scores(NamedTuple):
    """How unusual images are.

    Attributes:
        reconstruction_error: squared difference between an image and its reconstruction, both with
            values from 0 to 1, averaged over pixels and channels [N]. Large: the model cannot
            represent the image. An autoencoder reconstructs what it was trained on better than the
            rest (Japkowicz et al. 1995, https://www.ijcai.org/Proceedings/95-1/Papers/068.pdf).
        typicality: share [N], from 0 to 1, of 10,000 prior samples, always the same, whose density
            is not higher than that at the image's code: see
            :meth:`aae.priors.Prior.typicality`. Small: the code lies far out in the prior. NaN for
            a model without a prior. In many dimensions, a code near the mode has a typicality near
            1, though hardly any sample is there (Nalisnick et al. 2019,
            https://arxiv.org/abs/1906.02994).
    """

    reconstruction_error: Tensor
    typicality: Tensor


class TrainedModel:
    """A trained model on a device.

    Images are given as a uint8 tensor or array with values from 0 to 255, or as floats with values
    from 0 to 1, of shape [N, C, H, W], where C, H and W are those of the model. A single image can
    have the shape [C, H, W], and grey images [N, H, W] or [H, W]. The path of a picture file, or a
    list of paths, also stands for images: a picture of another size is cropped in its centre and
    resized, and converted to grey or colour, as the training images were. All results are tensors
    on the CPU, or on the device of the tensor that was given, with one entry for each image.

    Labels are given as the name of a category (see :attr:`class_names`), or its number from 0 on:
    a list or an array with one for each image or code, or a single one for all. Probabilities
    [N, K], as :meth:`classify` returns them, do as well. A decoder that takes no categories takes
    no labels.

    All methods raise one-line errors: :class:`aae.errors.DataError` for images, codes or labels
    that do not fit, with what was given and what is needed.

    Args:
        model: the model, which is moved to the device.
        device: "cpu", "cuda" or "cuda:1".

    Raises:
        ModelError: if there is no such device.

    Example:
        >>> architecture = Architecture(
        ...     image_shape=(1, 4, 4), latent_dim=2, hidden=(8,), discriminator_hidden=(8,),
        ...     prior={"name": "gaussian", "distribution": "Normal", "loc": 0.0, "scale": 5.0},
        ... )
        >>> model = TrainedModel(Model(architecture, seed=0))
        >>> images = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
        >>> model.encode(images).shape
        torch.Size([3, 2])
    """

    def __init__(self, model: Model, device: str | torch.device = "cpu") -> None:
        try:
            self.model = model.to(device).eval()
            torch.empty(0, device=device)  # a device without an index may be missing, too
        except (RuntimeError, AssertionError) as error:  # torch without CUDA raises the second
            reason = str(error).splitlines()[0]
            raise ModelError(f"device: {str(device)!r} cannot be used: {reason}") from error

    @property
    def architecture(self) -> Architecture:
        """Sizes of the networks, and the prior."""
        return self.model.architecture

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.architecture.image_shape

    @property
    def latent_dim(self) -> int:
        """Dimensions d of a code."""
        return self.architecture.latent_dim

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes, or else the numbers of the clusters; empty if there are none."""
        return self.architecture.categories.titles

    @cached_property
    def prior(self) -> Prior | None:
        """The prior that the codes follow; None for a plain autoencoder."""
        return self.architecture.make_prior()

    def encode(self, images: Images) -> Tensor:
        """Return the codes [N, d] of images: the means of their posteriors.

        Args:
            images: see the class.

        Raises:
            DataError: if the images do not fit, or a picture cannot be read.

        Example:
            >>> sizes = Architecture(image_shape=(3, 4, 4), latent_dim=2, hidden=(8,))
            >>> model = TrainedModel(Model(sizes, seed=0))
            >>> model.encode(torch.rand(5, 3, 4, 4)).shape
            torch.Size([5, 2])
            >>> model.encode(torch.rand(5, 4, 4, 3))
            Traceback (most recent call last):
            aae.errors.DataError: images of shape (5, 4, 4, 3); (N, 3, 4, 4) is needed
        """
        return self._join(images, self.model.encode, (self.latent_dim,))

    def style(self, images: Images) -> Tensor:
        """Return the styles [N, d] of images: what their classes do not say.

        A style is the code that :meth:`encode` returns, under the paper's name for the code of a
        decoder that also takes the class (Makhzani et al. 2015, sections 4 and 5). If the decoder
        takes no class, the code also holds the class.

        Args:
            images: see the class.

        Raises:
            DataError: if the images do not fit, or a picture cannot be read.

        Example:
            >>> categories = {"use": "decoder", "count": 2, "names": ["cat", "dog"]}
            >>> sizes = Architecture(
            ...     image_shape=(1, 4, 4), latent_dim=2, hidden=(8,), categories=categories
            ... )
            >>> model, images = TrainedModel(Model(sizes, seed=0)), torch.rand(5, 1, 4, 4)
            >>> torch.equal(model.style(images), model.encode(images))
            True
        """
        return self.encode(images)

    def classify(self, images: Images) -> Tensor:
        """Return the probabilities [N, K] of the classes, or clusters, of images.

        Args:
            images: see the class.

        Returns:
            The probabilities, in the order of :attr:`class_names`.

        Raises:
            ModelError: if the encoder does not find the class of an image.
            DataError: if the images do not fit, or a picture cannot be read.

        Example:
            >>> categories = {"use": "semi-supervised", "count": 2, "names": ["cat", "dog"]}
            >>> sizes = Architecture(
            ...     image_shape=(1, 4, 4), latent_dim=2, hidden=(8,), categories=categories
            ... )
            >>> model = TrainedModel(Model(sizes, seed=0))
            >>> probabilities = model.classify(torch.rand(5, 1, 4, 4))
            >>> probabilities.shape
            torch.Size([5, 2])
            >>> likeliest = [model.class_names[k] for k in probabilities.argmax(1)]
        """
        categories = self.architecture.categories
        if not categories.from_encoder:
            raise ModelError(
                "the model does not find the class of an image; one that is trained with "
                "labels.use: semi-supervised or clusters does"
            )
        return self._join(images, self.model.classify, (categories.from_encoder,))

    def decode(self, codes: Codes, labels: Classes | None = None) -> Tensor:
        """Return the images [N, C, H, W] of codes, with values from 0 to 1.

        Args:
            codes: numbers of shape [N, d], or [d] for a single code.
            labels: the class of each image, see the class; needed if the decoder takes classes.

        Raises:
            DataError: if the codes do not fit, or are not finite; if labels are missing, the
                decoder takes none, or there is no such class.

        Example:
            >>> categories = {"use": "decoder", "count": 2, "names": ["cat", "dog"]}
            >>> sizes = Architecture(
            ...     image_shape=(1, 4, 4), latent_dim=2, hidden=(8,), categories=categories
            ... )
            >>> model, codes = TrainedModel(Model(sizes, seed=0)), torch.zeros(3, 2)
            >>> model.decode(codes, ["cat", "dog", "dog"]).shape
            torch.Size([3, 1, 4, 4])
            >>> torch.equal(model.decode(codes, "dog"), model.decode(codes, 1))
            True
            >>> model.decode(codes)
            Traceback (most recent call last):
            aae.errors.DataError: labels are needed, because the decoder takes classes: cat, dog
        """
        checked = checked_codes(codes, self.latent_dim)
        given = self._labels(labels, len(checked))
        if not len(checked):
            return checked.new_empty(0, *self.image_shape)
        return self.model.decode(checked, given)

    def sample(self, n: int, seed: int = 0, labels: Classes | None = None) -> Tensor:
        """Return the decoded images [n, C, H, W] of prior samples, with values from 0 to 1.

        Args:
            n: number of images.
            seed: seed of the samples; the same seed and labels give the same images. Other labels
                with the same seed give images of the same styles.
            labels: the class of each image, see the class. If the decoder takes classes, they are
                by default random ones, all with the same probability. If each class has a part of
                the prior, the samples are from these parts.

        Raises:
            ModelError: if the model has no prior, or n is negative.
            DataError: if the model was trained without classes, or there is no such class.

        Example:
            >>> prior = {"name": "gaussian", "distribution": "Normal", "loc": 0.0, "scale": 5.0}
            >>> sizes = Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,), prior=prior)
            >>> TrainedModel(Model(sizes, seed=0)).sample(7, seed=1).shape
            torch.Size([7, 1, 4, 4])
        """
        if self.prior is None:
            raise ModelError(
                "the model has no prior to draw samples from; an adversarial autoencoder has one"
            )
        if n < 0:
            raise ModelError(f"n: {n} samples; 0 or more are needed")
        generator = stream(seed, "samples of a trained model")
        categories = self.architecture.categories
        if categories.to_discriminator and labels is not None:
            numbers = checked_labels(labels, n, self.class_names).cpu()
            if numbers.ndim > 1:
                raise DataError(
                    "labels are probabilities, but each sample is from the part of one class; "
                    "names or numbers of classes are needed"
                )
            return self.decode(self.prior.sample_parts(numbers, categories.count, generator))
        codes = self.prior.sample(n, generator)
        if labels is None:
            generator = stream(seed, "categories of samples of a trained model")
            labels = self.model.draw_labels(n, generator)
        return self.decode(codes, labels)

    def reconstruct(self, images: Images, labels: Classes | None = None) -> Tensor:
        """Return the decoded codes [N, C, H, W] of images, with values from 0 to 1.

        Args:
            images: see the class.
            labels: the class that the decoder is given with each code, see the class; by default
                what the encoder finds. Needed if the decoder takes classes that the encoder does
                not find.

        Raises:
            DataError: if the images do not fit, or a picture cannot be read; if labels are missing,
                the decoder takes none, or there is no such class.

        Example:
            >>> sizes = Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,))
            >>> TrainedModel(Model(sizes, seed=0)).reconstruct(torch.rand(5, 4, 4)).shape
            torch.Size([5, 1, 4, 4])
        """
        images, checked = self._labelled(images, labels)
        return self._join(images, self._reconstruct, self.image_shape, checked)

    def interpolate(
        self, a: Images, b: Images, steps: int, labels: Classes | None = None
    ) -> Tensor:
        """Return the images on the straight path between the codes of two images.

        If the encoder finds classes, the path also leads from the probabilities of one image to
        those of the other.

        Args:
            a: the images that the paths start from.
            b: the images that they lead to; as many as ``a``, or one of both is a single image.
            steps: number of images on a path, at least 2: the first is the reconstruction of the
                image in ``a``, the last that of the image in ``b``.
            labels: the class of each path, which all its images have: see :meth:`reconstruct`.

        Returns:
            Images [N, steps, C, H, W] with values from 0 to 1.

        Raises:
            DataError: as for :meth:`reconstruct`.

        Example:
            >>> sizes = Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,))
            >>> model = TrainedModel(Model(sizes, seed=0))
            >>> model.interpolate(torch.zeros(1, 4, 4), torch.ones(1, 4, 4), steps=9).shape
            torch.Size([1, 9, 1, 4, 4])
        """
        if steps < 2:
            raise DataError(f"steps: {steps} images on a path; 2 or more are needed")
        start, end = self.encode(a), self.encode(b)
        if len(start) != len(end) and 1 not in (len(start), len(end)):
            raise DataError(
                f"{len(start)} images to start from and {len(end)} to lead to; "
                "as many of both are needed, or a single one"
            )
        share = torch.linspace(0, 1, steps, device=start.device)[:, None]
        paths = torch.lerp(start[:, None], end[:, None], share)
        chosen = self._labels(labels, len(paths), found=True)
        if chosen is not None:
            chosen = chosen.repeat_interleave(steps, 0)
        elif self.architecture.categories.from_encoder:
            start, end = self.classify(a), self.classify(b)
            chosen = torch.lerp(start[:, None], end[:, None], share).flatten(0, 1)
        return self.decode(paths.flatten(0, 1), chosen).unflatten(0, (-1, steps))

    def score(self, images: Images, labels: Classes | None = None) -> Scores:
        """Return how unusual images are: see :class:`Scores`.

        Args:
            images: see the class.
            labels: the class of each image, for its reconstruction: see :meth:`reconstruct`.

        Raises:
            DataError: as for :meth:`reconstruct`.

        Example:
            >>> prior = {"name": "gaussian", "distribution": "Normal", "loc": 0.0, "scale": 5.0}
            >>> sizes = Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,), prior=prior)
            >>> scores = TrainedModel(Model(sizes, seed=0)).score(torch.full((2, 4, 4), 0.5))
            >>> scores.reconstruction_error.shape, scores.typicality.shape
            (torch.Size([2]), torch.Size([2]))
        """
        images, checked = self._labelled(images, labels)
        rows = self._join(images, self._score, (2,), checked)
        return Scores(rows[:, 0], rows[:, 1])

    def _reconstruct(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.model.decode(self.model.encode(images), self._categories(images, labels))

    def _score(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Return reconstruction error and typicality [n, 2]."""
        codes = self.model.encode(images)
        wanted = pixels(images) if images.dtype == torch.uint8 else images
        reconstructions = self.model.decode(codes, self._categories(images, labels))
        error = (reconstructions - wanted).square().flatten(1).mean(1)
        if self.prior is None:
            typicality = torch.full_like(error, torch.nan)
        else:
            typicality = self.prior.typicality(codes.cpu()).to(error.device)
        return torch.stack([error, typicality], dim=1)

    def _categories(self, images: Tensor, labels: Tensor | None) -> Tensor | None:
        """Return given labels, or else what the encoder finds."""
        return self.model.labels_of(images, None) if labels is None else labels

    def _labels(self, labels: Classes | None, count: int, found: bool = False) -> Tensor | None:
        """Return checked labels for the decoder; None if it takes none or the encoder finds them.

        Args:
            labels: see the class.
            count: number of the codes or images that they belong to.
            found: whether labels that are not given are those that the encoder finds, if it does.
        """
        categories = self.architecture.categories
        if labels is not None:
            if not categories.to_decoder:
                raise DataError("labels are given, but the model's decoder takes only codes")
            return checked_labels(labels, count, self.class_names)
        if categories.to_decoder and not (found and categories.from_encoder):
            raise DataError(
                "labels are needed, because the decoder takes classes: "
                f"{', '.join(self.class_names)}"
            )
        return None

    def _labelled(self, images: Images, labels: Classes | None) -> tuple[Images, Tensor | None]:
        """Return images, and their checked labels: see :meth:`_labels`."""
        images = self._listed(images)
        return images, self._labels(labels, len(images), found=True)

    def _join(
        self,
        images: Images,
        function: Callable[..., Tensor],
        shape: tuple[int, ...],
        *labels: Tensor | None,
    ) -> Tensor:
        """Return a function of images, and of their labels, batch by batch: one tensor [N, *shape].

        Args:
            images: see the class.
            function: maps images [n, C, H, W], and the labels of each, to a tensor [n, *shape].
            shape: shape of its result for one image.
            labels: labels [N] or [N, K] or None, if the function takes them.
        """
        results, start = [], 0
        for batch in self._batches(images):
            end = start + len(batch)
            if len(batch):
                rows = [None if given is None else given[start:end] for given in labels]
                results.append(function(batch, *rows))
            start = end
        return torch.cat(results) if results else torch.empty(0, *shape)

    def _listed(self, images: Images) -> Tensor | Sequence[str | Path]:
        """Return images as [N, C, H, W], or the paths of N pictures."""
        if isinstance(images, str | os.PathLike):
            return [images]
        return images if isinstance(images, Sequence) else shaped_images(images, self.image_shape)

    def _batches(self, images: Images) -> Iterator[Tensor]:
        """Yield checked images [n, C, H, W] in batches, uint8 or float32."""
        listed = self._listed(images)
        if isinstance(listed, Tensor):
            yield from map(checked_values, listed.split(CHUNK))
        else:
            yield from self._pictures(listed)

    def _pictures(self, paths: Sequence) -> Iterator[Tensor]:
        """Yield the images of picture files in batches."""
        for path in paths:
            if not isinstance(path, str | os.PathLike):
                raise DataError(
                    f"a list with a {type(path).__name__}; a list of paths of picture files is "
                    f"needed, or one array of shape {needed('N', *self.image_shape)}"
                )

        from aae.data.pictures import in_batches, in_parallel

        def refuse(path: object, error: DataError) -> None:
            raise DataError(f"{path}: {error}")

        for batch in in_batches(in_parallel(self.read, [Path(path) for path in paths], refuse)):
            yield torch.stack(batch)

    def read(self, path: Path) -> Tensor:
        """Return a picture file as a uint8 image [C, H, W] of the model's shape.

        Args:
            path: the file.

        Raises:
            DataError: if it cannot be read; names the reason, but not the file.

        Example:
            >>> import tempfile
            >>> from PIL import Image
            >>> path = Path(tempfile.mkdtemp()) / "red.png"
            >>> Image.new("RGB", (30, 20), "red").save(path)
            >>> sizes = Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,))
            >>> TrainedModel(Model(sizes, seed=0)).read(path).shape
            torch.Size([1, 4, 4])
        """
        # Imported here, because a served model gets arrays only and then does not need Pillow.
        from aae.data.pictures import read_picture

        channels = self.image_shape[0]
        if channels not in (1, 3):
            raise DataError(f"pictures have 1 or 3 channels, and the model's images {channels}")
        return read_picture(path, self.image_shape)


def load_trained(
    path: str | Path, device: str | torch.device = "cpu", own: str | None = None
) -> TrainedModel:
    """Read a model file; see :func:`aae.load`.

    Raises:
        ModelError: if the file is missing or damaged, or there is no such device.
    """
    return TrainedModel(load_model(Path(path), own), device)
