"""Labels written the way ``--labels`` reads them."""

from __future__ import annotations

from collections.abc import Iterable

from rratag.data.cells import csv_line, text_cell
from rratag.records import Instance


def labels_csv(instances: Iterable[Instance]) -> str:
    """CSV ``video,label,start_s,end_s,split,group`` of the labelled instances, in the order given."""
    lines = [csv_line(["video", "label", "start_s", "end_s", "split", "group"])]
    for one in instances:
        if one.label is not None:
            times = ["" if time is None else repr(time) for time in (one.start_s, one.end_s)]
            lines.append(
                csv_line([text_cell(one.video), text_cell(one.label), *times, one.split, text_cell(one.group)])
            )
    return "".join(lines)
