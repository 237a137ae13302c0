"""Labels that we write are labels that we read."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rratag.data.label_file import labels_csv
from rratag.data.labels import from_csv
from rratag.records import Instance

PIECES = st.sampled_from([*"a=-'\n\r\",;\t", "\udcff", "\\xff", "é"])
ROWS = st.tuples(
    st.lists(PIECES, min_size=1, max_size=5).map("".join),
    st.sampled_from(["cat", "=1+1", "'-x", "d\udcff", None]),
    st.sampled_from(["", "yt 1", "-g"]),
    st.sampled_from(["", "train", "validation", "test"]),
    st.sampled_from([(None, None), (0.1, None), (1 / 3, 2.5)]),
)


@settings(deadline=None, max_examples=80)
@given(st.lists(ROWS, max_size=5, unique_by=lambda row: row[0]))
def test_labels_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str | None, str, str, tuple[float | None, float | None]]],
) -> None:
    instances = [
        Instance(video, "k", label, group, part, *times) if label is not None else Instance(video, "k", None)
        for video, label, group, part, times in rows
    ]
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    path.write_bytes(labels_csv(instances).encode())
    found = from_csv(path, {one.video: "k" for one in instances})
    assert sorted(found.instances, key=repr) == sorted(instances, key=repr)
    assert found.missing == []
