"""Labels from folders and CSV: every dialect people save, and one line with file and line for every fault."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rratag.data.cells import escape, neutralise
from rratag.data.labels import from_csv, from_folders, parse_columns, with_groups
from rratag.data.readers.text import LONGEST_RECORD
from rratag.errors import LabelError, RratagError, UsageError
from rratag.records import Instance

IDS = {"a/1.mp4": "k1", "a/2.mp4": "k2", "b/3.mp4": "k3", "4.mp4": "k4"}


def save(folder: Path, content: str | bytes) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def labels(path: Path, ids: dict[str, str] = IDS) -> dict[str, str | None]:
    return {one.video: one.label for one in from_csv(path, ids).instances}


def test_tag_is_the_first_folder_and_videos_in_the_root_are_unlabelled() -> None:
    ids = {"b/deep/er/x.mp4": "k2", "a/x.mp4": "k1", "x.mp4": "k3"}
    assert from_folders(ids) == [
        Instance("a/x.mp4", "k1", "a"),
        Instance("b/deep/er/x.mp4", "k2", "b"),
        Instance("x.mp4", "k3", None),
    ]


@pytest.mark.parametrize(
    "content",
    [
        "video,label\na/1.mp4,cat\nb/3.mp4,dog\n",
        "video;label\na/1.mp4;cat\nb/3.mp4;dog\n",
        "video\tlabel\na/1.mp4\tcat\nb/3.mp4\tdog\n",
        "video,label\r\na/1.mp4,cat\r\nb/3.mp4,dog",
        "video,label\ra/1.mp4,cat\rb/3.mp4,dog",
        "label,more,video\ncat,x,a/1.mp4\ndog,y,b/3.mp4\n",
        b"\xef\xbb\xbfvideo,label\na/1.mp4,cat\nb/3.mp4,dog\n",
        "video\tlabel\na/1.mp4\tcat\nb/3.mp4\tdog\n".encode("utf-16"),
        ' video , label \n"a/1.mp4", cat \n\n,\n"b/3.mp4","dog"\n',
        "video,label\n./a/1.mp4,cat\n.\\b\\3.mp4,dog\n",
        "video;label;note\na/1.mp4;cat;1,5\nb/3.mp4;dog;2,5\n",
    ],
)
def test_every_dialect_says_the_same(tmp_path: Path, content: str | bytes) -> None:
    assert labels(save(tmp_path, content)) == {"4.mp4": None, "a/1.mp4": "cat", "a/2.mp4": None, "b/3.mp4": "dog"}


def test_all_columns_renamed(tmp_path: Path) -> None:
    path = save(
        tmp_path, "file,tag,from,to,part,source\na/1.mp4,cat,1.5,4,VAL,yt\na/1.mp4,dog,4,,train,yt\nb/3.mp4,cat,,,,\n"
    )
    columns = parse_columns("video=file, label=tag,start_s=from,end_s=to,split=part,group=source")
    assert from_csv(path, IDS, columns).instances == [
        Instance("4.mp4", "k4", None),
        Instance("a/1.mp4", "k1", "cat", "yt", "validation", 1.5, 4.0),
        Instance("a/1.mp4", "k1", "dog", "yt", "train", 4.0, None),
        Instance("a/2.mp4", "k2", None),
        Instance("b/3.mp4", "k3", "cat"),
    ]


def test_rows_without_a_video_are_counted_once_and_class_names_are_sorted(tmp_path: Path) -> None:
    found = from_csv(save(tmp_path, "video,label\nz.mp4,c\na/1.mp4,b\nz.mp4,c\ny.mp4,c\na/2.mp4,a\n"), IDS)
    assert found.missing == ["z.mp4", "y.mp4"]
    assert found.class_names == ["a", "b"]


def test_quoted_newlines_do_not_upset_line_numbers(tmp_path: Path) -> None:
    path = save(tmp_path, 'video,label,note\n"odd\nname.mp4",cat,"two\nlines"\na/1.mp4,cat,x,y\n')
    with pytest.raises(LabelError, match=r"labels\.csv:5: 4 cells, the header has 3"):
        from_csv(path, IDS)


@settings(deadline=None, max_examples=60)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=()), min_size=1, max_size=12))
def test_names_written_as_in_our_own_files_are_found(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    if any("\ud800" <= letter <= "\udfff" and not "\udc80" <= letter <= "\udcff" for letter in name):
        return  # no file name here can hold it
    cell = neutralise(escape(name)).replace('"', '""')
    path = save(tmp_path_factory.mktemp("labels"), f'video,label\n"{cell}",cat\n')
    assert labels(path, {name: "k"}) == {name: "cat"}


def test_names_of_raw_bytes_are_found(tmp_path: Path) -> None:
    assert labels(save(tmp_path, b"video,label\nm\xe9.mp4,cat\n"), {"m\udce9.mp4": "k"}) == {"m\udce9.mp4": "cat"}


def test_equal_rows_are_one(tmp_path: Path) -> None:
    found = from_csv(save(tmp_path, "video,label\na/1.mp4,cat\n./a/1.mp4,cat\n"), {"a/1.mp4": "k1"})
    assert len(found.instances) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"labels\.csv:1: no column 'video'; columns present: none"),
        ("name,label\n", r"labels\.csv:1: no column 'video'; columns present: name, label; .* --columns video="),
        ("video,label,label\n", r"labels\.csv:1:13: column 'label' is there 2 times"),
        ("video,label\na/1.mp4\n", r"labels\.csv:2: 1 cells, the header has 2"),
        (
            "video,label\na/1.mp4,a\na/1.mp4,b\n",
            r"labels\.csv:3:9: video 'a/1\.mp4' has label 'b' here and 'a' on line 2",
        ),
        (
            "video,label,split\na/1.mp4,a,dev\n",
            r"labels\.csv:2:11: unknown split 'dev'; choose from train, validation, test",
        ),
        ("video,label,start_s\na/1.mp4,a,soon\n", r"labels\.csv:2:11: start_s is 'soon'"),
        ("video,label,end_s\na/1.mp4,a,-1\n", r"labels\.csv:2:11: end_s is '-1'"),
        ("video,label,end_s\na/1.mp4,a,nan\n", r"labels\.csv:2:11: end_s is 'nan'"),
        ("video,label,start_s,end_s\na/1.mp4,a,3,2\n", r"labels\.csv:2:13: start_s 3 is not before end_s 2"),
        ('video,label\na/1.mp4,a\n"a/2.mp4,b\na/3.mp4,c\n', r"labels\.csv:3: not CSV .* is a quote left open"),
        (b"video,label\na/1.mp4,M\xe9sange\n", r"labels\.csv:2:9: label .* is not UTF-8"),
        (b"PK\x03\x04\0\0\0\0", r"labels\.csv:1: not a text file"),
        (b"\xff\xfev\0i", r"labels\.csv: not text that can be read"),
        ("x" * (LONGEST_RECORD + 5), r"labels\.csv:1: not a text file"),
        ("video,label\na/1.mp4,a\0b\n", r"labels\.csv:2: not a text file"),
        ('video,label\n\na/1.mp4,"' + "x\n" * 200_000, r"labels\.csv:3: not CSV .field larger.* is a quote left open"),
        ("video,label\n" + '"\n",' * LONGEST_RECORD, r"labels\.csv:2: not CSV .one row without end.* left open"),
        ("video,label" + ",x" * 100_000 + "\na/1.mp4,a\n", r"labels\.csv:2: 2 cells, the header has 100002"),
        ("name" + ",x" * 100_000 + "\n", r"columns present: name, (x, ){19}\.\.\.; name it"),
        (
            "video,label\n/data/a/1.mp4,a\n",
            r"labels\.csv:2:1: '/data/a/1\.mp4' is not below the root; videos are named",
        ),
        ("label,video\na,../a/1.mp4\n", r"labels\.csv:2:3: '\.\./a/1\.mp4' is not below the root"),
        ("label,video\na,a/../../1.mp4\n", r"labels\.csv:2:3: .* is not below the root"),
        ("label,video\na,C:\\a\\1.mp4\n", r"labels\.csv:2:3: .* is not below the root"),
        ("video,label,start_s\na/1.mp4,a,inf\n", r"labels\.csv:2:11: start_s is 'inf'"),
        ("video,label,start_s\na/1.mp4,a,1e999\n", r"labels\.csv:2:11: start_s is '1e999'"),
        ("video,label,start_s,end_s\na/1.mp4,a,2,2\n", r"labels\.csv:2:13: start_s 2 is not before end_s 2"),
        ("video,label,split\na/1.mp4,a," + "x" * 5000 + "\n", r"unknown split 'x{60}'\.\.\.; choose"),
    ],
)
def test_faults_are_one_line_with_file_and_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(LabelError, match=message) as caught:
        from_csv(save(tmp_path, content), IDS)
    assert "\n" not in str(caught.value)


def test_renamed_column_that_is_not_there_names_those_present(tmp_path: Path) -> None:
    path = save(tmp_path, "file,label\n")
    with pytest.raises(LabelError, match=r"no column 'source' for 'group'; columns present: file, label$"):
        from_csv(path, IDS, {"video": "file", "group": "source"})


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such label file"):
        from_csv(tmp_path / "none.csv", IDS)
    with pytest.raises(RratagError, match="cannot be read"):
        from_csv(tmp_path, IDS)


def test_memory_does_not_grow_with_rows_of_other_columns(tmp_path: Path) -> None:
    row = "a/1.mp4,cat," + "x" * 1000 + "\n"
    path = save(tmp_path, "video,label,note\n" + row * 10_000)  # 10 MB
    tracemalloc.start()
    try:
        from_csv(path, IDS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("text", ["name=file", "video", "video=", "video=a,video=b"])
def test_columns_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--columns"):
        parse_columns(text)


def test_groups_by_pattern() -> None:
    ids = ["cat/yt1_004.mp4", "cat/yt1_009.mp4", "dog/other.mp4"]
    instances = [Instance(video, video, "x") for video in ids]
    assert [one.group for one in with_groups(instances, r"/(\w+)_\d+")] == ["yt1", "yt1", "dog/other.mp4"]
    assert [one.group for one in with_groups(instances, r"yt\d")] == ["yt1", "yt1", "dog/other.mp4"]
    assert [one.group for one in with_groups(instances, r"cat(x)?")] == ids  # a group that took no part


def test_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--group-by '\(': not a regular expression"):
        with_groups([], "(")


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ("a/1.mp4,x,soon", "2:11"),
        ('"a/1.mp4",x,soon', "2:13"),
        ('"a/1.mp4","x",soon', "2:15"),
        ('"a/1.mp4","x, ""y""\n, z",soon', "3:6"),
        ('"a/1.mp4","two\r\nlines",soon', "3:8"),
        ('"a/1.mp4","two\rlines",soon', "3:8"),
        ('"a/1.mp4",5" disc,soon', "2:19"),
        ('\n\n"a/1.mp4",x, soon', "4:13"),
        ('"a/1.mp4",ä𝄞,soon', "2:14"),
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_fault_names_the_line_and_column_where_its_cell_begins(
    tmp_path: Path, row: str, place: str, delimiter: str
) -> None:
    inside = row.replace(",", delimiter)
    path = save(tmp_path, f"video{delimiter}label{delimiter}start_s\n{inside}\n")
    with pytest.raises(LabelError, match=rf"labels\.csv:{place}: start_s is"):
        from_csv(path, IDS)


def test_a_byte_order_mark_takes_no_column(tmp_path: Path) -> None:
    for code in ("utf-8-sig", "utf-16"):
        path = save(tmp_path, "split,video,label\ndev,a/1.mp4,x\n".encode(code))
        with pytest.raises(LabelError, match=r"labels\.csv:2:1: unknown split"):
            from_csv(path, IDS)


def test_a_name_that_stays_below_the_root_is_found(tmp_path: Path) -> None:
    assert labels(save(tmp_path, "video,label\nb/.././a//1.mp4,cat\n"), {"a/1.mp4": "k"}) == {"a/1.mp4": "cat"}


@pytest.mark.parametrize(
    "content",
    [
        "video,label\n" + "x" * 50_000_000,  # one line
        'video,label\n"' + "x\n" * 5_000_000,  # an open quote over the whole file
        "video,label\n" + '"\n",' * 5_000_000,  # one row over the whole file
    ],
    ids=["line", "quote", "row"],
)
def test_a_row_without_end_takes_little_memory(tmp_path: Path, content: str) -> None:
    path = save(tmp_path, content)
    tracemalloc.start()
    try:
        with pytest.raises(LabelError):
            from_csv(path, IDS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * LONGEST_RECORD


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(LabelError, match=r"cannot be read \(not a regular file\)"):
        from_csv(tmp_path / "pipe.csv", IDS)
