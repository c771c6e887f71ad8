"""Which figures a scenario has, each with the sentence under it."""

from __future__ import annotations

from clbench.entries import Table
from clbench.overall import Overall
from clbench.report.drawing import Drawing, highlighted
from clbench.report.over_time import AXES, having, over_time
from clbench.report.standing import critical_difference, profile
from clbench.report.trade_offs import against_cost, stability

Picture = tuple[str, str]

_GREY = (
    "Named where there is room: up to seven of the best, one a strategy if there are three or more, and the best of "
    "each reference. The others are grey; their names are tooltips."
)
_GREY_METHODS = "Named: the seven best by mean; the others are grey, their names are tooltips."
OVER_TIME = {
    "accuracy": "<b>Accuracy over time.</b> After each task, the mean over the tasks seen so far. Bands: 95 % "
    "intervals of the mean over seeds, from 3 seeds on. References are dotted, without a band.",
    "task_inference_accuracy": "<b>Task inference over time.</b> Share of test samples taken for their own task.",
    "expected_calibration_error": "<b>Calibration over time.</b> Expected calibration error (15 bins): how far "
    "confidence is from the share of right answers. Low is good.",
    "negative_log_likelihood": "<b>Likelihood over time.</b> Mean negative log-probability of the right class. "
    "Low is good.",
}
STABILITY = (
    "<b>Forgetting against plasticity.</b> Right: learns new tasks well; low: keeps them. Hollow points are references."
)
_FRONT = (
    "Ringed, joined and named: no other entry is as good on both and better on one; references (hollow) do not count."
)
COST = {
    "state_bytes": f"<b>Accuracy against memory.</b> {_FRONT}",
    "cumulative_train_flops.nevis2022": f"<b>Accuracy against compute.</b> {_FRONT}",
    "train_seconds": f"<b>Accuracy against time.</b> {_FRONT} Time depends on the machine.",
}


def of_table(table: Table) -> list[Picture]:
    """The figures of a scenario that its records allow."""
    style = highlighted(table.entries)
    costs = {column.id: column for column in table.columns if column.id in COST}
    found = [(over_time(table, style), OVER_TIME["accuracy"]), (stability(table, style), STABILITY)]
    found += [(against_cost(table, style, costs[id]), caption) for id, caption in COST.items() if id in costs]
    for name in (name for name in AXES if name != "accuracy"):  # of the entries that have it
        found.append((over_time(table, highlighted(having(table, name), style), name), OVER_TIME[name]))
    return [_picture(drawn, caption, _GREY) for drawn, caption in found if drawn]


def _picture(drawn: Drawing, caption: str, grey: str) -> Picture:
    return drawn.svg, f"{caption} {grey}" if drawn.grey else caption


def of_protocol(overall: Overall) -> list[Picture]:
    """Scenarios of one protocol together, as figures where they can say something: SVG and caption."""
    figures, name = [], "/".join((overall.protocol, overall.track, *overall.scenarios))
    if overall.ranking is not None:
        caption = (
            "<b>Critical differences.</b> Average rank over independent data sets, best left; a bar joins methods "
            "of which no two are separated (Friedman, then Wilcoxon with Holm's correction)."
        )
        figures.append((critical_difference(overall.ranking, name), caption))
    drawn = profile({method.label: method.scores for method in overall.methods}, name)
    if drawn:
        caption = (
            "<b>Performance profile.</b> For each accuracy the share of runs above it, over these scenarios; "
            "only methods that were run on all of them. A curve above another everywhere is better everywhere."
        )
        figures.append(_picture(drawn, caption, _GREY_METHODS))
    return figures
