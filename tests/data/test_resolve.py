"""Which video a name means: never a guess."""

from __future__ import annotations

import pytest

from rratag.data.resolve import Names


@pytest.mark.parametrize(
    ("name", "ids", "meant"),
    [
        ("x", ["a/x.mp4"], ["a/x.mp4"]),
        ("x.avi", ["a/deep/x.mp4"], ["a/deep/x.mp4"]),
        ("x.mp4", ["a/x.mp4", "b/x.webm"], ["a/x.mp4"]),
        ("x", ["a/x.mp4", "b/x.webm"], ["a/x.mp4", "b/x.webm"]),
        ("QOlSCBRmfWY", ["v_QOlSCBRmfWY.mkv", "v_QOlSCBRmfWZ.mkv"], ["v_QOlSCBRmfWY.mkv"]),
        ("v_Surfing_g01_c02.avi", ["Surfing_g01_c02.mp4"], ["Surfing_g01_c02.mp4"]),
        ("x", ["v_x.mp4", "x.mp4"], ["x.mp4"]),  # nearer, and so no doubt
        ("v_8IbzVjGrA", ["v_v_8IbzVjGrA.mp4"], ["v_v_8IbzVjGrA.mp4"]),  # an id that begins like the prefix
        ("v_8IbzVjGrA", ["v_v_8IbzVjGrA.mp4", "8IbzVjGrA.mp4"], ["v_v_8IbzVjGrA.mp4"]),
        ("a/1.mp4", ["b/1.mp4"], []),
        ("a/1.mp4", ["1.mp4"], ["1.mp4"]),
        ("/home/them/frames/a/1", ["a/1.mp4", "b/1.mp4"], ["a/1.mp4"]),
        ("a/1.mp4", ["train/a/1.mp4", "train/b/1.mp4"], ["train/a/1.mp4"]),
        ("a/1.mp4", ["train/a/1.mp4", "val/a/1.mp4"], ["train/a/1.mp4", "val/a/1.mp4"]),
        (".\\a\\1.mp4", ["x/a/1.mp4"], ["x/a/1.mp4"]),
        ("clip.final", ["clip.final.mp4", "clip.mp4"], ["clip.final.mp4"]),
        ("X", ["x.mp4"], []),
        ("", ["x.mp4"], []),
        ("v_", ["x.mp4", "v_.mp4"], ["v_.mp4"]),
        ("-0Qw6HJCvbB", ["Doing it's thing/-0Qw6HJCvbB.mp4"], ["Doing it's thing/-0Qw6HJCvbB.mp4"]),
    ],
)
def test_the_nearest_kind_of_name_decides(name: str, ids: list[str], meant: list[str]) -> None:
    assert Names(dict.fromkeys(ids)).nearest(name) == meant


def test_a_video_that_is_another_name_s_is_not_meant() -> None:
    names = Names(dict.fromkeys(["x.mp4", "a/x.webm"]))
    assert names.nearest("x", taken={"x.mp4"}) == ["a/x.webm"]
    assert names.nearest("x.mp4", taken={"x.mp4"}) == ["a/x.webm"]
    assert names.nearest("x", taken={"x.mp4", "a/x.webm"}) == []


def test_an_exact_spelling_is_an_id() -> None:
    names = Names({"a/1.mp4": ""})
    assert names.exact(["b", "a/1.mp4"]) == "a/1.mp4"
    assert names.exact(["1.mp4"]) is None


def test_a_name_that_no_file_can_have_is_like_any_other() -> None:
    assert Names(dict.fromkeys(["\ud800.mp4", "x.mp4"])).nearest("\ud800") == ["\ud800.mp4"]
