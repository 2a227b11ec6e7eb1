import math

import pytest
from rich.console import Console

from aae.errors import ComparisonError
from aae.params import Guard
from aae.regression.comparison import Comparison, Row, compare_metrics
from aae.regression.gate import guards_of

GUARDS = {
    "aae.match_ratio": Guard(absolute=0.5),
    "aae.prior_coverage": Guard(absolute=0.05),
    "ae.reconstruction_mse": Guard(relative=0.1),
}
BASELINE = {"aae.match_ratio": 1.5, "aae.prior_coverage": 0.9, "ae.reconstruction_mse": 0.04}


LONGEST = Row("aae.reconstruction_mse", 0.04678, 0.04679748, 0.00327, "no longer guarded")


def verdicts(now: dict, baseline: dict = BASELINE, accepted: dict = BASELINE) -> dict[str, str]:
    rows = compare_metrics(GUARDS, baseline, BASELINE | now, accepted)
    return {row.metric: row.verdict for row in rows}


@pytest.mark.parametrize(
    ("metric", "value", "verdict"),
    [
        ("aae.match_ratio", 1.5, "same"),
        ("aae.match_ratio", 1.99, "same"),
        ("aae.match_ratio", 2.01, "worse"),
        ("aae.match_ratio", 1.01, "same"),
        ("aae.match_ratio", 0.99, "better"),
        ("aae.prior_coverage", 0.86, "same"),
        ("aae.prior_coverage", 0.84, "worse"),
        ("aae.prior_coverage", 0.96, "better"),
        ("ae.reconstruction_mse", 0.0439, "same"),
        ("ae.reconstruction_mse", 0.0441, "worse"),
        ("ae.reconstruction_mse", 0.0359, "better"),
        ("aae.match_ratio", math.nan, "worse"),
        ("aae.match_ratio", math.inf, "worse"),
        ("aae.prior_coverage", math.nan, "worse"),
        ("aae.prior_coverage", math.inf, "worse"),
        ("ae.reconstruction_mse", -math.inf, "worse"),
    ],
)
def test_direction_and_tolerance_decide(metric, value, verdict):
    found = verdicts({metric: value})
    assert found.pop(metric) == verdict
    assert set(found.values()) == {"same"}


def test_a_metric_that_the_baseline_lacks_is_new():
    assert verdicts({}, {"aae.prior_coverage": 0.9}) == {
        "aae.match_ratio": "new", "aae.prior_coverage": "same", "ae.reconstruction_mse": "new"
    }  # fmt: skip


def test_a_metric_that_is_not_guarded_any_more_is_named():
    found = verdicts({}, BASELINE | {"aae.probe_accuracy": 0.5})
    assert found["aae.probe_accuracy"] == "no longer guarded"


def test_what_is_worse_can_be_accepted_up_to_what_was_committed():
    accepted = BASELINE | {"aae.match_ratio": 3.0}
    assert verdicts({"aae.match_ratio": 3.4}, accepted=accepted)["aae.match_ratio"] == "accepted"
    assert verdicts({"aae.match_ratio": 3.6}, accepted=accepted)["aae.match_ratio"] == "worse"
    # Accepting one metric must not accept another.
    found = verdicts({"aae.match_ratio": 3.0, "aae.prior_coverage": 0.1}, accepted=accepted)
    assert found["aae.prior_coverage"] == "worse"


def comparison(now: dict, figures: list[str] | None = None) -> Comparison:
    rows = compare_metrics(GUARDS, BASELINE, BASELINE | now, BASELINE)
    return Comparison("0123abc" * 5, "v1 (0123abc)", rows, figures or [])


def test_the_summary_names_what_is_worse_or_else_what_is_better():
    assert comparison({"aae.match_ratio": 9.0}).summary == (
        "regression: aae.match_ratio worse than at v1 (0123abc)"
    )
    assert comparison({"aae.match_ratio": 0.1}).summary == (
        "pass: 3 metrics, none worse than at v1 (0123abc); better: aae.match_ratio"
    )
    assert comparison({}).failed is False


def test_the_table_fits_into_80_columns_and_shows_limits():
    console = Console(width=80, record=True)
    console.print(comparison({"aae.match_ratio": 9.0}).table())
    lines = console.export_text().splitlines()
    row = next(line for line in lines if "aae.match_ratio" in line)
    assert row.replace("│", "").split() == ["aae.match_ratio", "1.5", "9", "+7.5", "+0.5", "worse"]
    coverage = next(line for line in lines if "aae.prior_coverage" in line)
    assert "-0.05" in coverage
    console.print(Comparison("", "v1", [LONGEST], []).table())
    text = console.export_text()
    assert all(cell in text for cell in LONGEST.cells()), "no name or number is cut off"


def test_markdown_shows_figures_that_changed_before_and_after():
    text = comparison({"aae.match_ratio": 9.0}, ["reports/figures/gap.png"]).markdown(
        "https://host/raw/a", "https://host/raw/b"
    )
    assert "| aae.match_ratio | 1.5 | 9 | +7.5 | +0.5 | ❌ worse |" in text
    assert "![](https://host/raw/a/reports/figures/gap.png)" in text
    assert "![](https://host/raw/b/reports/figures/gap.png)" in text
    assert "make regression ARGS=--accept" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count(" | ") for line in rows[:5]} == {5}
    # Without addresses, the comment names the figures.
    assert "`reports/figures/gap.png`" in comparison({}, ["reports/figures/gap.png"]).markdown()
    assert "accept" not in comparison({}).markdown()


def test_rows_without_a_baseline_or_a_value_leave_their_cells_empty():
    assert Row("a", None, 1.0, None, "new").cells() == ["a", "", "1", "", ""]
    assert Row("a", 1.0, None, None, "no longer guarded").cells() == ["a", "1", "", "", ""]


NEEDS_LABELS = {"ae.knn_accuracy": Guard(absolute=0.1)}
MEASURED = dict.fromkeys(BASELINE, 0.5)


def test_metrics_that_need_labels_are_passed_over_if_the_data_have_none():
    guards = GUARDS | NEEDS_LABELS
    assert guards_of(guards, MEASURED, BASELINE) == GUARDS
    rows = compare_metrics(GUARDS, BASELINE, BASELINE, BASELINE)
    found = Comparison("abc", "main", rows, [], ["ae.knn_accuracy"])
    assert found.summary == (
        "pass: 3 metrics, none worse than at main; "
        "passed over, since the data have no labels: ae.knn_accuracy"
    )
    assert "passed over" not in Comparison("abc", "main", rows, []).summary


@pytest.mark.parametrize(
    ("missing", "measured", "baseline"),
    [
        ("ae.knn_accuracy", {}, {"ae.knn_accuracy": 0.8}),  # the baseline has it
        ("ae.knn_accuracy", {"aae.knn_accuracy": 0.8}, {}),  # the data have labels
        ("ae.mmd2", {}, {}),  # it needs no labels
        ("ae.knn_acuracy", {}, {}),
        ("vae.knn_accuracy", {}, {}),
    ],
)
def test_any_other_metric_that_is_missing_is_an_error(missing, measured, baseline):
    guards = GUARDS | {missing: Guard(absolute=0.1)}
    with pytest.raises(ComparisonError, match=f"regression.metrics: '{missing}' is not measured"):
        guards_of(guards, MEASURED | measured, BASELINE | baseline)


def test_with_labels_all_guards_count():
    guards = GUARDS | NEEDS_LABELS
    assert guards_of(guards, MEASURED | {"ae.knn_accuracy": 0.8}, BASELINE) == guards
