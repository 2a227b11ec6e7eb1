"""Categories: what the networks know of the classes of images, or of clusters that they find."""

import operator
from typing import Annotated, Self

import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from aae.params import LabelUse


class Categories(BaseModel):
    """How the networks use categories: the classes of labelled images, or clusters.

    Attributes:
        use: ``labels.use`` of params.yaml.
        count: number of categories K.
        places: whether a decoder adds the learnt place of a category to the units, instead of
            having the category as additional inputs: Makhzani et al. 2015, section 7.
        names: names of the classes, in the order of their labels; empty for clusters.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    use: LabelUse
    count: Annotated[int, Field(ge=0, le=1000)]
    places: bool = False
    names: tuple[str, ...] = Field(default=(), exclude_if=operator.not_)

    @model_validator(mode="after")
    def _named_all_or_none(self) -> Self:
        if self.names and len(self.names) != self.count:
            raise ValueError(f"{len(self.names)} names of {self.count} categories")
        return self

    @property
    def titles(self) -> tuple[str, ...]:
        """What a user calls the categories: the names of classes, or else their numbers."""
        return self.names or tuple(map(str, range(self.count)))

    @property
    def from_encoder(self) -> int:
        """Outputs of the encoder for the category: K, or 0 if the encoder emits none."""
        return self.count if self.use in ("semi-supervised", "clusters") else 0

    @property
    def to_decoder(self) -> int:
        """Categories that the decoder takes: K, or 0 if it takes none."""
        return 0 if self.use in ("none", "prior") else self.count

    @property
    def are_classes(self) -> bool:
        """Whether categories are the classes of labelled images, and not clusters or nothing."""
        return self.use in ("prior", "decoder", "semi-supervised")

    @property
    def to_discriminator(self) -> int:
        """Inputs of the discriminator for the class of an image: K and "unknown", or 0."""
        return self.count + 1 if self.use == "prior" else 0


NO_CATEGORIES = Categories(use="none", count=0)


def one_hot(numbers: Tensor, count: int) -> Tensor:
    """Return rows [..., count] for numbers [...], with a 1 at the number, or only zeros for -1.

    Example:
        >>> import torch
        >>> one_hot(torch.tensor([1, -1]), 3)
        tensor([[0., 1., 0.],
                [0., 0., 0.]])
    """
    return F.one_hot(numbers.long() + 1, count + 1)[..., 1:].float()
