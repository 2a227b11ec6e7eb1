"""Titles and colours of the models in figures and on the page, and names of classes in figures."""

from collections.abc import Sequence

from aae.models.categories import Categories

TITLES = {
    "ae": "Autoencoder",
    "aae": "Adversarial autoencoder",
    "ae_mixture": "Autoencoder and mixture",
}
COLOURS = {"ae": "#d95f02", "aae": "#1f78b4"}

# Largest number of classes that a legend names, and that bars are drawn for.
MAX_CLASSES = 20
# Largest number of characters of a class's name in a figure.
MAX_NAME = 12


def short(name: str) -> str:
    """Return a name, without its middle if it is too long for a figure.

    Names that begin alike, such as paths, often differ at their end.
    """
    if len(name) <= MAX_NAME:
        return name
    kept = MAX_NAME - 1
    return f"{name[: kept - kept // 3]}…{name[-(kept // 3) :]}"


def category_word(categories: Categories) -> str:
    """Return what a category is called."""
    return "class" if categories.are_classes else "cluster"


def spread(items: Sequence[int], most: int) -> list[int]:
    """Return at most ``most`` items of a sequence, at equal distances from each other."""
    count = min(most, len(items))
    return [items[len(items) * k // count] for k in range(count)]
