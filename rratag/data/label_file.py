"""Labels written the way ``--labels`` reads them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from rratag.data.cells import csv_line, text_cell
from rratag.records import Instance


def labels_csv(instances: Iterable[Instance]) -> str:
    """CSV ``video,label,start_s,end_s,split,group`` of the labelled instances, in the order given.

    Where a video (or interval) has several labels a column ``several`` says that this is meant.
    """
    kept = [one for one in instances if one.label is not None]
    labels: dict[tuple[str, float | None, float | None], set[str | None]] = defaultdict(set)
    for one in kept:
        labels[one.video, one.start_s, one.end_s].add(one.label)
    has_several = any(len(found) > 1 for found in labels.values())
    lines = [csv_line(["video", "label", "start_s", "end_s", "split", "group", *["several"] * has_several])]
    for one in kept:
        times = ["" if time is None else repr(time) for time in (one.start_s, one.end_s)]
        several = ["1" if len(labels[one.video, one.start_s, one.end_s]) > 1 else ""] if has_several else []
        cells = [text_cell(one.video), text_cell(str(one.label)), *times, one.split, text_cell(one.group), *several]
        lines.append(csv_line(cells))
    return "".join(lines)
