"""Results of :mod:`rratag.train.grid` become figures like the paper's Fig. 5. In: results. Out: SVG texts by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter

import numpy as np

from rratag.evaluate.figures import Curve, line_chart
from rratag.head.losses import parse_loss
from rratag.train.grid import BASE, TABLES, Contender, Result

Row = dict[str, float]
"""One epoch, as :meth:`rratag.train.history.EpochRecord.to_json` gives it."""


def figures(results: Sequence[Result], tables: Sequence[str]) -> dict[str, str]:
    """SVG documents by file name.

    ``losses.svg`` (Fig. 5, 3): training loss of each sum of losses; ``glimpses.svg`` (Fig. 5, 1): training cross
    entropy of the ensemble scores for each number of glimpses; ``each-glimpse.svg`` (Fig. 5, 2): training cross entropy
    of each glimpse of the base, and of the ensemble scores; ``each-glimpse-validation.svg``: their validation accuracy.
    The first two belong to tables of these names.

    Parameters
    ----------
    results : of any contenders and seeds; a curve is the mean over seeds. Results without epochs are left
        out, and so is a figure for which none is left
    tables : names in :data:`rratag.train.grid.TABLES`

    Notes
    -----
    Each sum of losses is drawn as it was minimised, as in the paper: L_i is a sum over glimpses, so the heights of
    curves of different sums say nothing, only how they fall.
    """
    by_name: dict[str, list[list[Row]]] = {}
    for one in results:
        if one.history:
            by_name.setdefault(one.name, []).append(one.history)

    def curves(contenders: Sequence[Contender], value: Callable[[Contender, Row], float]) -> list[Curve]:
        trained = [one for one in contenders if one.name in by_name]
        return [_curve(one.name, by_name[one.name], partial(value, one)) for one in trained]

    found = {}
    if "losses" in tables:
        found["losses.svg"] = "Training loss", "loss, nats", curves(TABLES["losses"], _training_loss)
    if "glimpses" in tables:
        ordered = sorted(TABLES["glimpses"], key=lambda one: int(one.head["num_glimpses"]))
        by_number = curves(ordered, lambda _, row: row["train_Le"])
        found["glimpses.svg"] = "Training cross entropy of the ensemble scores", "nats", by_number
    base = by_name.get(BASE.name, [])
    title = f"Training cross entropy of each glimpse: {BASE.name}"
    found["each-glimpse.svg"] = title, "nats", _each_glimpse(base, "train_glimpse_{}", "train_Le")
    title = f"Validation accuracy of each glimpse: {BASE.name}"
    validated = _each_glimpse(base, "validation_glimpse_{}", "validation_accuracy")
    found["each-glimpse-validation.svg"] = title, "accuracy", validated
    return {name: line_chart(title, label, curves) for name, (title, label, curves) in found.items() if curves}


def _training_loss(contender: Contender, row: Row) -> float:
    """The sum that was minimised, of its terms."""
    return sum(weight * row[f"train_{name}"] for name, weight in parse_loss(contender.loss).terms)


def _each_glimpse(histories: Sequence[list[Row]], of_glimpse: str, of_all: str) -> list[Curve]:
    """Curves of the columns of every glimpse, `of_glimpse` with its number, and of the column of all together."""
    columns = {f"glimpse {k}": of_glimpse.format(k) for k in range(1, BASE.head["num_glimpses"] + 1)}
    columns["ensemble"] = of_all
    if not histories or not histories[0][0].keys() >= set(columns.values()):  # kept without validation, or long ago
        return []
    return [_curve(name, histories, itemgetter(column)) for name, column in columns.items()]


def _curve(name: str, histories: Sequence[list[Row]], value: Callable[[Row], float]) -> Curve:
    """Mean and standard deviation over seeds, up to the last epoch that all of them have."""
    length = min(len(history) for history in histories)
    values = np.array([[value(row) for row in history[:length]] for history in histories])
    spread = values.std(0, ddof=1) if len(values) > 1 else np.zeros(length)
    return Curve(name, values.mean(0).tolist(), spread.tolist())
