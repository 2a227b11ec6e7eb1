import base64
from html.parser import HTMLParser

import pytest
from page_example import (
    CHOICES,
    EXPLORER,
    FIGURES,
    FIGURES_OF,
    METRICS,
    MODEL,
    OF_PARTS,
    PANEL,
    PROVENANCE,
    TESTED,
)

from aae.report.page import render


class Page(HTMLParser):
    """Collects the text, the tags, and every address that a browser would load."""

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


def make_page(params, **changes) -> str:
    given = {
        "metrics": METRICS, "provenance": PROVENANCE, "explorer": EXPLORER, "code": "c" * 64,
        "figures": {name: name.encode() for name in FIGURES},
    }  # fmt: skip
    return render(**given | changes, params=params)


def test_the_page_names_no_folder_of_this_machine(make_params):
    assert "somebody" not in make_page(make_params({"data.root": "/home/somebody/images"}))


@pytest.fixture
def page(make_params) -> Page:
    return Page(make_page(make_params({})))


def text_of(page: Page) -> str:
    return " ".join(" ".join(page.text).split())  # a non-breaking space is white space too


def test_the_page_loads_nothing(page):
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    assert "iframe" not in page.tags


def test_every_figure_is_in_it_with_a_caption(page):
    shown = [base64.b64decode(x.split(",")[1]) for x in page.addresses if "image/png" in x]
    assert shown == [name.encode() for name in FIGURES]
    assert page.tags.count("figcaption") >= len(FIGURES)


def test_the_verdicts_come_first(page):
    text = text_of(page)
    verdicts = text[: text.index("In numbers")]
    assert verdicts.index("do not follow the prior") < verdicts.index("The codes follow the prior")
    for part in ("5.1 times as far", "7 tests together: p = 0.005",
                 "Match ratio 1.23", "p = 0.310"):  # fmt: skip
        assert part in verdicts


def test_the_numbers_are_in_it(page):
    text = text_of(page)
    floor = [
        f"{MODEL['floor'][name]['mean']:.3f}" for name in ("sliced_wasserstein", "ks_statistic")
    ]
    for part in ("5.08", "1.23", *floor, "0.777", "96.1 %", "3600", "1000 test images", "b" * 64):
        assert part in text
    assert text.count("p = 0.250") == len(TESTED)
    assert "Normal(loc=0.0, scale=5.0) in 2 dimensions" in text.replace("  ", " ")
    assert f"SHA-256 of the code {'c' * 64}" in text
    for part in ("network.hidden [1000, 1000]", "train_aae.learning_rate.discriminator 0.001"):
        assert part in text


def test_the_rival_is_in_the_table_and_named_if_it_is_the_best(page):
    text = text_of(page)
    assert "0.11" in text
    assert "the best images here are those of the autoencoder and mixture" in text


def test_the_model_with_the_best_images_is_named(make_params):
    for name, title in (("ae", "autoencoder"), ("aae", "adversarial autoencoder")):
        best = METRICS | {name: METRICS[name] | {"generated_frechet": 0.01}}
        text = text_of(Page(make_page(make_params({}), metrics=best)))
        assert f"the best images here are those of the {title}." in text


def test_texts_from_parameters_and_data_are_escaped(make_params):
    name = "</script><script>alert(1)</script>"
    plain = Page(make_page(make_params({})))
    explorer = EXPLORER | {"class_names": [name]}
    page = Page(make_page(make_params({}), explorer=explorer))
    assert page.tags.count("script") == plain.tags.count("script") == 2
    assert name in "".join(page.text)


@pytest.mark.parametrize(
    ("changes", "expected", "absent"),
    [
        ({"prior": "uniform"}, "the line around it", "25, 50, 75 and 95 %"),
        ({"latent_dim": 1}, "each class on a separate line", "25, 50, 75 and 95 %"),
        ({"latent_dim": 2}, "lines that enclose 25, 50, 75 and 95 % of it", "shows the first"),
        ({"latent_dim": 20}, "The figure shows the first 16 of 20 dimensions.", "ranks"),
        ({"train_aae.init": "scratch"}, "Epoch 0 is an encoder with random weights", "shifted and"),
        ({"labels.use": "decoder"}, "Epoch 0 is an encoder with random weights", "shifted and"),
        ({}, "Epoch 0 is the autoencoder", "Epoch 0 is an encoder with random weights"),
    ],
)
def test_captions_say_what_the_figures_show(make_params, changes, expected, absent):
    text = text_of(Page(make_page(make_params(changes))))
    assert expected in text
    assert absent not in text


def test_a_prior_without_a_variance_is_compared_by_ranks(make_params):
    by_ranks = {"univariate": True, "by_ranks": True}
    page = make_page(make_params({}), provenance=PROVENANCE | {"prior": by_ranks})
    assert "distances are between ranks" in text_of(Page(page))


def test_the_page_says_which_of_many_classes_it_shows(make_params):
    many = EXPLORER | {"class_names": [str(k) for k in range(100)], "colours": ["#123456"] * 100}
    text = text_of(Page(make_page(make_params({}), explorer=many)))
    few = text_of(Page(make_page(make_params({}))))
    for part in ("The legend names 20 of 100 classes", "the 20 classes that are most frequent",
                 "typical test image of some of the classes"):  # fmt: skip
        assert part in text
        assert part not in few


def test_parameters_without_a_value_are_null_as_in_their_file(make_params):
    assert "data.size null" in text_of(Page(make_page(make_params({}))))


def page_of(make_params, use: str, choice: str | None = None, **found: float | str) -> Page:
    """The page of a model with categories: its figures, and the measures that it has."""
    names = [*FIGURES, *FIGURES_OF[use]]
    panel = PANEL | (CHOICES | {"choice": choice} if choice else {})
    return Page(
        make_page(
            make_params({"labels.use": use, "labels.clusters": 12, "prior": "swiss_roll"}),
            figures={name: name.encode() for name in names},
            metrics=METRICS | {"aae": MODEL | found},
            explorer=EXPLORER | {"models": {"ae": PANEL, "aae": panel}},
        )
    )


def test_the_page_says_whether_the_model_has_noise_and_not_whether_the_parameters_do(make_params):
    stochastic = text_of(page_of(make_params, "decoder"))
    without = text_of(page_of(make_params, "prior", posterior="deterministic"))
    for part in ("posterior.kind: gaussian", "the means of their distributions"):
        assert part in stochastic
        assert part not in without


@pytest.mark.parametrize(
    ("use", "choice", "variant", "figure"),
    [
        ("prior", None, "each class has its own part of the prior", "own part of the prior; the"),
        ("decoder", "class", "Its decoder is also given the class", "and the class along a column"),
        ("semi-supervised", "class", "finds the class of an image", "Right answers are on the"),
        ("clusters", "cluster", "one of 12 clusters, without any", "the head of each cluster"),
    ],
)  # fmt: skip
def test_the_page_says_first_what_the_variant_is_and_shows_its_figures(
    make_params, use, choice, variant, figure
):
    page = page_of(make_params, use, choice)
    text = text_of(page)
    assert variant in text[: text.index("Here the prior is")]
    assert f"labels.use: {use}" in text
    assert figure in text
    shown = {base64.b64decode(x.split(",")[1]).decode() for x in page.addresses if "image/png" in x}
    assert shown == {*FIGURES, *FIGURES_OF[use]}
    assert page.tags.count("select") == bool(choice)
    if choice:
        assert f"also takes a {choice}, which you choose below its plane" in text


def test_a_model_without_categories_has_no_word_of_them_on_the_page(page):
    text = text_of(page)
    text = text[: text.index("How to repeat this")]
    for part in ("The adversarial autoencoder of this page", "Class by class", "styles", "cluster",
                 "Do the categories say", "which you choose", "drawn at random for"):  # fmt: skip
        assert part not in text
    assert "select" not in page.tags


def test_measures_of_categories_are_in_the_table_of_a_model_that_has_them(make_params):
    found = {"classification_error": 0.0345, "asked_class_accuracy": 0.932}
    text = text_of(page_of(make_params, "semi-supervised", "class", **found))
    for part in ("Do the categories say what the images show?", "Classification error 0.0345"):
        assert part in text
    # The reference is how often the judge is right about real images.
    assert "Share of the class that was asked for 0.932 0.961" in text
    assert "Clustering error" not in text


def test_the_page_has_the_verdict_of_each_class(make_params):
    text = text_of(page_of(make_params, "prior", **OF_PARTS))
    assert "Match ratio, class by class 1.35 1.00" in text
    assert "Classes whose codes follow their part 1 number of classes" in text
    assert "none 1.35 yes (p = 0.125)" in text


def test_the_page_says_how_many_labels_the_training_has_seen(make_params):
    for count, expected in ((100, "100"), (None, "all")):
        params = make_params(
            {"labels.use": "decoder", **({"labels.count": count} if count else {})}
        )
        text = text_of(Page(make_page(params)))
        assert f"It has seen the labels of {expected} training images." in text
