"""The comparison of guarded metrics with a baseline, and its tables."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.table import Table

from aae.evaluation.measures import MEASURES
from aae.params import Guard

HOW_TO_ACCEPT = (
    "to accept the metrics of this tree as the new baseline, run "
    "`make regression ARGS=--accept` and commit reports/metrics/regression.json"
)
TITLES = ("metric", "baseline", "now", "change", "tolerance", "verdict")
COLOURS = {"worse": "red", "accepted": "yellow", "better": "green"}
SIGNS = {"worse": "❌ ", "accepted": "⚠️ ", "better": "✅ "}


@dataclass(frozen=True)
class Row:
    """The comparison of one metric.

    Attributes:
        metric: model and name, such as ``aae.match_ratio``.
        baseline: its value at the baseline; None if there is none.
        now: its value in this tree; None if it is no longer guarded.
        tolerance: by how much ``now`` may exceed the baseline or, if negative, fall below it.
        verdict: "same" (within the tolerance), "better", "worse", "accepted" (worse, but no worse
            than the metric that is committed with this tree), "new" or "no longer guarded".
    """

    metric: str
    baseline: float | None
    now: float | None
    tolerance: float | None
    verdict: str

    def cells(self) -> list[str]:
        """Return the cells of the row, without the verdict."""
        known = self.baseline is not None and self.now is not None
        values = [
            _text(self.baseline, ".4g"),
            _text(self.now, ".4g"),
            _text(self.now - self.baseline if known else None, "+.3g"),  # type: ignore[operator]
            _text(self.tolerance, "+.3g"),
        ]
        return [self.metric, *values]


def _text(value: float | None, style: str) -> str:
    return "" if value is None else format(value, style)


@dataclass(frozen=True)
class Comparison:
    """The comparison of a tree with a baseline.

    Attributes:
        base: commit of the baseline.
        title: name of the baseline.
        rows: the metrics.
        figures: paths of the committed figures that differ from those of the baseline.
        passed_over: guarded metrics that need labels, if the data have none.
    """

    base: str
    title: str
    rows: list[Row]
    figures: list[str]
    passed_over: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether a metric is worse."""
        return bool(self._named("worse"))

    @property
    def may_be_accepted(self) -> bool:
        """Whether this tree has metrics that a new baseline would keep."""
        return any(self._named(verdict) for verdict in ("worse", "better", "new"))

    @property
    def summary(self) -> str:
        """The result, in one line."""
        if self.failed:
            parts = [f"regression: {self._named('worse')} worse than at {self.title}"]
        else:
            parts = [f"pass: {len(self.rows)} metrics, none worse than at {self.title}"]
            for verdict in ("better", "accepted", "new", "no longer guarded"):
                if names := self._named(verdict):
                    parts.append(f"{verdict}: {names}")
        if names := ", ".join(self.passed_over):
            parts.append(f"passed over, since the data have no labels: {names}")
        return "; ".join(parts)

    def _named(self, verdict: str) -> str:
        return ", ".join(row.metric for row in self.rows if row.verdict == verdict)

    def table(self) -> Table:
        """Return the table for a terminal."""
        table = Table(*TITLES, title=f"compared with {self.title}", show_edge=False)
        table.columns[0].min_width = max((len(row.metric) for row in self.rows), default=0)
        for column in table.columns[1:-1]:
            column.justify = "right"
        for row in self.rows:
            table.add_row(*row.cells(), row.verdict, style=COLOURS.get(row.verdict))
        return table

    def markdown(self, before: str | None = None, after: str | None = None) -> str:
        """Return the table and the changed figures for a comment in Markdown.

        Args:
            before: address of the baseline's files.
            after: address of this tree's files. Without these addresses, the comment only names
                the figures.
        """
        lines = [_line(TITLES), "| --- | --: | --: | --: | --: | --- |"]
        lines += [
            _line([*row.cells(), SIGNS.get(row.verdict, "") + row.verdict]) for row in self.rows
        ]
        if self.may_be_accepted:
            lines += ["", f"T{HOW_TO_ACCEPT[1:]}."]
        if self.figures:
            lines += ["", "<details><summary>Figures that changed</summary>", ""]
            lines += [_line(["figure", "baseline", "now"]), "| --- | --- | --- |"]
            for path in self.figures:
                images = (f"![]({x}/{path})" if x else "" for x in (before, after))
                lines.append(_line([f"`{path}`", *images]))
            lines += ["", "</details>"]
        return "\n".join(lines) + "\n"


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def compare_metrics(
    guards: Mapping[str, Guard],
    baseline: Mapping[str, float],
    now: Mapping[str, float],
    accepted: Mapping[str, float],
) -> list[Row]:
    """Compare metrics with those of a baseline.

    Args:
        guards: tolerances of the guarded metrics by name.
        baseline: metrics at the baseline. A metric that it lacks is new, and gets no verdict.
        now: metrics of this tree. A metric that is not finite is worse.
        accepted: metrics that were committed with this tree. If one differs from the baseline, a
            worse metric counts as accepted, unless it is also worse than the committed one.
    """
    rows = []
    for name, guard in guards.items():
        before, after = baseline.get(name), now[name]
        if before is None:
            rows.append(Row(name, None, after, None, "new"))
            continue
        better, tolerance = MEASURES[name.partition(".")[2]].better, guard.tolerance(before)
        loss = _loss(better, before, after)
        verdict = "worse" if loss > tolerance else "better" if loss < -tolerance else "same"
        claimed = accepted.get(name, before)
        if verdict == "worse" and claimed != before:
            known = _loss(better, claimed, after) <= guard.tolerance(claimed)
            verdict = "accepted" if known else "worse"
        limit = -tolerance if better == "higher" else tolerance
        rows.append(Row(name, before, after, limit, verdict))
    for name in baseline.keys() - guards.keys():
        rows.append(Row(name, baseline[name], None, None, "no longer guarded"))
    return rows


def _loss(better: str | None, baseline: float, value: float) -> float:
    """Return by how much a value is worse than the baseline; infinity if it is not finite."""
    if not math.isfinite(value):
        return math.inf
    return baseline - value if better == "higher" else value - baseline
