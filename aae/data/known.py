"""The labels that a training may see."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aae.data.images import Images
from aae.errors import ParameterError
from aae.params import Params
from aae.priors import chosen_prior
from aae.seeding import stream


class KnownLabels(NamedTuple):
    """Labels that a training may see; all others are erased.

    Attributes:
        class_names: names of the classes, in the order of the labels.
        train: the label [N] of each training image, or -1.
        validation: the label [M] of each validation image, or -1.
    """

    class_names: tuple[str, ...]
    train: Tensor
    validation: Tensor


def known_labels(
    train: Images,
    validation: Images,
    class_names: Sequence[str],
    params: Params,
) -> KnownLabels | None:
    """Return the labels that a training may see; None if it uses none.

    If ``labels.count`` limits them, they are those of random training images, equally many of each
    class: the first ones of each in a random order.

    Args:
        train: the training images.
        validation: the validation images.
        class_names: names of the classes, in the order of the labels.
        params: all parameters.

    Raises:
        ParameterError: see :func:`check_labels`.
    """
    names, classes, settings = tuple(class_names), len(class_names), params.labels
    check_labels(train.labels, classes, params)
    if not settings.are_needed:
        return None
    assert train.labels is not None
    assert validation.labels is not None
    if settings.count is None:
        return KnownLabels(names, train.labels.long(), validation.labels.long())
    order = torch.randperm(len(train), generator=stream(params.seed, "known labels"))
    shuffled, each = train.labels[order], settings.count // classes
    chosen = torch.cat([order[shuffled == label][:each] for label in range(classes)])
    known = torch.full((len(train),), -1)
    known[chosen] = train.labels[chosen].long()
    return KnownLabels(names, known, torch.full((len(validation),), -1))


def check_labels(labels: Tensor | None, classes: int, params: Params) -> None:
    """Check that ``labels.use`` has the labels, and the parts of the prior, that it needs.

    Args:
        labels: labels of the training images [N]; None without labels.
        classes: number of classes.
        params: all parameters.

    Raises:
        ParameterError: if there are no labels, or fewer of a class than ``labels.count`` needs; if
            ``labels.count`` is not a multiple of the number of classes; if the prior does not have
            a part for each class.
    """
    settings = params.labels
    if not settings.are_needed:
        return
    if labels is None:
        raise ParameterError(
            f"labels.use: {settings.use!r} needs images with labels, and these have none; "
            "'none' and 'clusters' need no labels"
        )
    if settings.use == "prior" and not chosen_prior(params).parts(classes):
        raise ParameterError(
            f"labels.use: 'prior' needs a prior with {classes} parts, one for each class: "
            f"GaussianRing(components={classes}), or SwissRoll"
        )
    if settings.count is None:
        return
    most = classes * int(torch.bincount(labels.long(), minlength=classes).min())
    if settings.count > most:
        raise ParameterError(
            f"labels.count: {settings.count} labels, equally many of each class; there are at most "
            f"{most}"
        )
    if rest := settings.count % classes:
        lower, higher = settings.count - rest, settings.count - rest + classes
        right = " or ".join(str(count) for count in (lower, higher) if 0 < count <= most)
        raise ParameterError(
            f"labels.count: {settings.count} is not a multiple of the {classes} classes; "
            f"{right} would do"
        )
