import base64
from html.parser import HTMLParser

import pytest

from aae.report import render

FIGURES = ("latent_histogram", "codes_by_class", "decoded_prior", "reconstructions", "losses")
MODEL = {
    "reconstruction_mse": 0.04, "sliced_wasserstein": 0.5, "match_ratio": 1.23, "ks_statistic": 0.1,
    "floor": {"sliced_wasserstein": {"mean": 0.4}, "ks_statistic": {"mean": 0.05}},
}  # fmt: skip
PROVENANCE = {
    "data": {"source": "mnist-5k", "counts": {"train": 3600, "validation": 400, "test": 1000}},
    "sha256": {"data": "d" * 64, "ae": "a" * 64, "aae": "b" * 64},
}


class Page(HTMLParser):
    """Collects every address that a browser would load, the text, and the tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        values = dict(attributes)
        self.addresses += [values[name] for name in ("src", "href") if name in values]

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_names_no_folder_of_this_machine(make_params):
    html = render(
        metrics={"ae": MODEL, "aae": MODEL},
        provenance=PROVENANCE,
        figures=dict.fromkeys(FIGURES, b""),
        params=make_params({"data.root": "/home/somebody/images"}),
    )
    assert "somebody" not in html


@pytest.fixture
def page(make_params) -> Page:
    html = render(
        metrics={"ae": MODEL | {"match_ratio": 5.08}, "aae": MODEL},
        provenance=PROVENANCE,
        figures={name: name.encode() for name in FIGURES},
        params=make_params({}),
    )
    return Page(html)


def test_the_page_loads_nothing(page):
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    assert not {"script", "iframe"} & set(page.tags)


def test_every_figure_is_in_it_with_a_caption(page):
    shown = [base64.b64decode(x.split(",")[1]) for x in page.addresses if "image/png" in x]
    assert sorted(shown) == sorted(name.encode() for name in FIGURES)
    assert page.tags.count("figcaption") == len(FIGURES)


def test_the_numbers_are_in_it(page):
    text = " ".join(" ".join(page.text).split())
    for part in ("5.08", "1.23", "0.400", "0.050", "3600", "1000 test images", "b" * 64):
        assert part in text
    assert "Normal(loc=0.0, scale=5.0) in 2 dimensions" in text.replace("  ", " ")


def test_names_from_parameters_are_escaped(make_params):
    name = "<script>alert(1)</script>"
    entry = {"distribution": "Normal", "loc": 0.0, "scale": 1.0}
    html = render(
        metrics={"ae": MODEL, "aae": MODEL},
        provenance=PROVENANCE,
        figures=dict.fromkeys(FIGURES, b""),
        params=make_params({f"priors.{name}": entry, "prior": name}),
    )
    assert "script" not in Page(html).tags
    assert name in "".join(Page(html).text)
