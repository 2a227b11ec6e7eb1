"""A trained model: images to codes and back, samples, and how unusual an image is."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aae.errors import DataError, ModelError
from aae.models.checkpoints import load_model
from aae.models.model import Architecture, Model
from aae.models.networks import CHUNK, pixels
from aae.priors import Prior
from aae.seeding import stream

# Images as an array, or the paths of picture files.
Images: TypeAlias = Tensor | NDArray[Any] | str | Path | Sequence[str | Path]
Codes: TypeAlias = Tensor | NDArray[Any]


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

    All methods raise one-line errors: :class:`aae.errors.DataError` for images or codes that do not
    fit, with what was given and what is needed.

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
        >>> images = np.zeros((3, 1, 4, 4), np.uint8)
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

    def decode(self, codes: Codes) -> Tensor:
        """Return the images [N, C, H, W] of codes, with values from 0 to 1.

        Args:
            codes: numbers of shape [N, d], or [d] for a single code.

        Raises:
            DataError: if the codes do not fit, or are not finite.

        Example:
            >>> sizes = Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,))
            >>> model = TrainedModel(Model(sizes, seed=0))
            >>> model.decode(np.array([[0.0, 0.0], [1.0, -1.0]])).shape
            torch.Size([2, 1, 4, 4])
        """
        checked = self._checked_codes(codes)
        if not len(checked):
            return checked.new_empty(0, *self.image_shape)
        return self.model.decode(checked)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Return the decoded images [n, C, H, W] of prior samples, with values from 0 to 1.

        Args:
            n: number of images.
            seed: seed of the samples; the same seed gives the same images.

        Raises:
            ModelError: if the model has no prior, or n is negative.

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
        return self.decode(self.prior.sample(n, stream(seed, "samples of a trained model")))

    def reconstruct(self, images: Images) -> Tensor:
        """Return the decoded codes [N, C, H, W] of images, with values from 0 to 1.

        Args:
            images: see the class.

        Raises:
            DataError: if the images do not fit, or a picture cannot be read.

        Example:
            >>> sizes = Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,))
            >>> TrainedModel(Model(sizes, seed=0)).reconstruct(torch.rand(5, 4, 4)).shape
            torch.Size([5, 1, 4, 4])
        """
        return self._join(images, self._reconstruct, self.image_shape)

    def interpolate(self, a: Images, b: Images, steps: int) -> Tensor:
        """Return the images on the straight path between the codes of two images.

        Args:
            a: the images that the paths start from.
            b: the images that they lead to; as many as ``a``, or one of both is a single image.
            steps: number of images on a path, at least 2: the first is the reconstruction of the
                image in ``a``, the last that of the image in ``b``.

        Returns:
            Images [N, steps, C, H, W] with values from 0 to 1.

        Raises:
            DataError: if the images do not fit, or a picture cannot be read.

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
        return self.decode(paths.flatten(0, 1)).unflatten(0, (-1, steps))

    def score(self, images: Images) -> Scores:
        """Return how unusual images are: see :class:`Scores`.

        Args:
            images: see the class.

        Raises:
            DataError: if the images do not fit, or a picture cannot be read.

        Example:
            >>> prior = {"name": "gaussian", "distribution": "Normal", "loc": 0.0, "scale": 5.0}
            >>> sizes = Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,), prior=prior)
            >>> scores = TrainedModel(Model(sizes, seed=0)).score(torch.full((2, 4, 4), 0.5))
            >>> scores.reconstruction_error.shape, scores.typicality.shape
            (torch.Size([2]), torch.Size([2]))
        """
        rows = self._join(images, self._score, (2,))
        return Scores(rows[:, 0], rows[:, 1])

    def _reconstruct(self, images: Tensor) -> Tensor:
        return self.model.decode(self.model.encode(images))

    def _score(self, images: Tensor) -> Tensor:
        """Return reconstruction error and typicality [n, 2]."""
        codes = self.model.encode(images)
        wanted = pixels(images) if images.dtype == torch.uint8 else images
        error = (self.model.decode(codes) - wanted).square().flatten(1).mean(1)
        if self.prior is None:
            typicality = torch.full_like(error, torch.nan)
        else:
            typicality = self.prior.typicality(codes.cpu()).to(error.device)
        return torch.stack([error, typicality], dim=1)

    def _join(
        self, images: Images, function: Callable[[Tensor], Tensor], shape: tuple[int, ...]
    ) -> Tensor:
        """Return a function of images, batch by batch, as one tensor [N, *shape]."""
        results = [function(batch) for batch in self._batches(images) if len(batch)]
        return torch.cat(results) if results else torch.empty(0, *shape)

    def _batches(self, images: Images) -> Iterator[Tensor]:
        """Yield checked images [n, C, H, W] in batches, uint8 or float32."""
        if isinstance(images, str | os.PathLike):
            images = [images]
        if isinstance(images, Sequence):
            yield from self._pictures(images)
            return
        for batch in self._shaped(_tensor(images, "images")).split(CHUNK):
            yield _checked_values(batch)

    def _pictures(self, paths: Sequence) -> Iterator[Tensor]:
        """Yield the images of picture files in batches."""
        for path in paths:
            if not isinstance(path, str | os.PathLike):
                raise DataError(
                    f"a list with a {type(path).__name__}; a list of paths of picture files is "
                    f"needed, or one array of shape {_needed('N', *self.image_shape)}"
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

    def _shaped(self, images: Tensor) -> Tensor:
        """Return images as [N, C, H, W]."""
        channels, height, width = self.image_shape
        given = tuple(images.shape)
        if given[1:] == self.image_shape and len(given) == 4:
            return images
        if given == self.image_shape:
            return images[None]
        if channels == 1 and given[-2:] == (height, width) and len(given) in (2, 3):
            return images.reshape(-1, 1, height, width)
        raise DataError(f"images of shape {given}; {_needed('N', *self.image_shape)} is needed")

    def _checked_codes(self, codes: Codes) -> Tensor:
        """Return codes as float32 [N, d]."""
        found = _tensor(codes, "codes")
        given = tuple(found.shape)
        if len(given) not in (1, 2) or given[-1] != self.latent_dim:
            raise DataError(f"codes of shape {given}; {_needed('N', self.latent_dim)} is needed")
        if found.dtype == torch.bool or found.is_complex():
            raise DataError(f"codes are {found.dtype}; floats are needed")
        found = found.reshape(-1, self.latent_dim).float()
        if not found.isfinite().all():
            raise DataError("codes hold NaN or infinite values; finite numbers are needed")
        return found


def load_trained(
    path: str | Path, device: str | torch.device = "cpu", own: str | None = None
) -> TrainedModel:
    """Read a model file; see :func:`aae.load`.

    Raises:
        ModelError: if the file is missing or damaged, or there is no such device.
    """
    return TrainedModel(load_model(Path(path), own), device)


def _needed(*shape: object) -> str:
    return f"({', '.join(map(str, shape))})"


def _tensor(values: object, what: str) -> Tensor:
    """Return a tensor, or an array as a tensor."""
    if isinstance(values, Tensor):
        return values.detach()
    if isinstance(values, np.ndarray):
        try:
            # A copy of what torch cannot share: negative strides, read-only, another byte order.
            native = values.dtype.newbyteorder("=")
            return torch.from_numpy(np.require(values, native, ["C", "W"]))
        except TypeError as error:
            raise DataError(f"{what} are an array of {values.dtype}; numbers are needed") from error
    raise DataError(f"{what} are a {type(values).__name__}; a tensor or an array is needed")


def _checked_values(images: Tensor) -> Tensor:
    """Return images with values that a model can see, uint8 or float32."""
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise DataError(
            f"images are {images.dtype}; uint8 from 0 to 255 or floats from 0 to 1 are needed"
        )
    if not images.isfinite().all():
        raise DataError("images hold NaN or infinite values; floats from 0 to 1 are needed")
    if images.numel() and (images.min() < 0 or images.max() > 1):
        raise DataError(
            f"images are floats from {images.min():g} to {images.max():g}; "
            "floats from 0 to 1 or uint8 from 0 to 255 are needed"
        )
    return images.float()
