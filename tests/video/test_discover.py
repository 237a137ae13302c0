"""Inputs become candidates: each path once, in a stable order, and everything else counted."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from rratag.errors import UsageError
from rratag.video.discover import discover


def put(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def ids(found) -> list[str]:
    return [video.id for video in found.videos]


def refusals(found) -> list[tuple[str, str, str]]:
    return [(receipt.video, receipt.status, receipt.reason) for receipt in found.failures]


def test_a_folder_is_walked_and_sorted_by_bytes(tmp_path):
    put(tmp_path, "b/2.MP4", "b/10.mkv", "a.mov", "B.webm", "é.avi", "notes.txt", "b/photo.jpg", ".hidden.mp4")
    put(tmp_path, ".rratag/features/x.mp4", "b/.git/y.mp4", "dir.mp4/in.ts")
    found = discover([str(tmp_path)])
    assert found.root == tmp_path
    assert ids(found) == ["B.webm", "a.mov", "b/10.mkv", "b/2.MP4", "dir.mp4/in.ts", "é.avi"]
    assert [video.path for video in found.videos][2] == tmp_path / "b" / "10.mkv"
    assert all(video.root == tmp_path for video in found.videos)
    assert found.num_other == 2
    assert found.failures == []


def test_relative_inputs_give_absolute_paths(tmp_path, monkeypatch):
    put(tmp_path, "videos/a.mp4")
    monkeypatch.chdir(tmp_path)
    found = discover(["videos"])
    assert ids(found) == ["a.mp4"]
    assert found.videos[0].path == tmp_path / "videos" / "a.mp4"
    assert ids(discover(["./videos/"])) == ["a.mp4"]
    assert discover(["videos", "./videos/"]).root == tmp_path / "videos"


def test_several_inputs_share_their_nearest_folder(tmp_path, monkeypatch):
    put(tmp_path, "videos/fight/1.mp4", "videos/noFight/1.mp4", "videos/other/1.mp4")
    monkeypatch.chdir(tmp_path)
    found = discover(["videos/noFight", "videos/fight"])
    assert found.root == tmp_path / "videos"
    assert ids(found) == ["fight/1.mp4", "noFight/1.mp4"]


def test_a_single_file_has_its_folder_as_root(tmp_path):
    put(tmp_path, "deep/a.mp4", "deep/b.mp4")
    found = discover([str(tmp_path / "deep/a.mp4")])
    assert (found.root, ids(found)) == (tmp_path / "deep", ["a.mp4"])


def test_globs(tmp_path, monkeypatch):
    put(tmp_path, "a1.mp4", "a2.mp4", "b.mp4", "sub/a3.mp4")
    monkeypatch.chdir(tmp_path)
    assert ids(discover(["a*.mp4"])) == ["a1.mp4", "a2.mp4"]
    assert ids(discover(["**/a*.mp4"])) == ["a1.mp4", "a2.mp4", "sub/a3.mp4"]
    with pytest.raises(UsageError, match="matches nothing"):
        discover(["c*.mp4"])


def test_a_name_with_glob_characters_is_itself(tmp_path):
    put(tmp_path, "a[1].mp4", "a1.mp4")
    assert ids(discover([str(tmp_path / "a[1].mp4")])) == ["a[1].mp4"]


def test_a_list_file(tmp_path):
    put(tmp_path, "in/a.mp4", "in/b c.mp4", "in/sub/d.mp4", "in/unlisted.mp4")
    (tmp_path / "in/list.txt").write_bytes(b"\xef\xbb\xbf# mine\r\na.mp4\r\n\r\n  \nb c.mp4\nsub\n")
    found = discover([str(tmp_path / "in/list.txt")])
    assert (found.root, ids(found)) == (tmp_path / "in", ["a.mp4", "b c.mp4", "sub/d.mp4"])


def test_a_list_that_names_what_is_not_there(tmp_path):
    (tmp_path / "list.lst").write_text("\nmissing.mp4\n")
    with pytest.raises(UsageError, match=r"list\.lst':2: .*missing\.mp4' does not exist"):
        discover([str(tmp_path / "list.lst")])
    (tmp_path / "list.lst").write_text("# nothing\n")
    with pytest.raises(UsageError, match="names no file"):
        discover([str(tmp_path / "list.lst")])


def test_standard_input(tmp_path, monkeypatch):
    put(tmp_path, "a.mp4", "b.mp4")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"b.mp4\n")))
    assert ids(discover(["-"])) == ["b.mp4"]


def test_any_file_named_explicitly_is_tried_but_for_what_is_surely_none(tmp_path):
    put(tmp_path, "clip.dat", "clip", "README.md", "talk.mp3")
    found = discover([str(tmp_path / name) for name in ["clip.dat", "clip", "README.md", "talk.mp3"]])
    assert ids(found) == ["clip", "clip.dat"]
    assert refusals(found) == [("README.md", "skipped", "extension"), ("talk.mp3", "skipped", "extension")]


def test_a_path_reached_twice_is_one_video(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4")
    folder, file = str(tmp_path), str(tmp_path / "a.mp4")
    assert ids(discover([folder, folder])) == ["a.mp4", "b.mp4"]
    assert refusals(discover([folder, folder])) == []
    assert refusals(discover([file, file])) == []
    found = discover([folder, file])
    assert ids(found) == ["a.mp4", "b.mp4"]
    assert refusals(found) == [("a.mp4", "skipped", "duplicate_path")]


def test_links_are_followed_and_loops_cut(tmp_path):
    put(tmp_path, "videos/a.mp4", "elsewhere/b.mp4")
    (tmp_path / "videos/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "videos/up").symlink_to(tmp_path / "videos")
    (tmp_path / "videos/twin.mp4").symlink_to(tmp_path / "videos/a.mp4")
    found = discover([str(tmp_path / "videos")])
    assert ids(found) == ["a.mp4", "linked/b.mp4", "twin.mp4"]
    assert found.videos[1].path == tmp_path / "videos/linked/b.mp4"


def test_a_folder_is_visited_once_and_rather_where_it_lies(tmp_path):
    put(tmp_path, "videos/b/1.mp4", "outside/2.mp4", "outside/sub/3.mp4")
    (tmp_path / "videos/a").mkdir()
    for link, target in {"a/to_b": "videos/b", "c": "outside", "d": "outside", "a/sub": "outside/sub"}.items():
        (tmp_path / "videos" / link).symlink_to(tmp_path / target)
    videos = tmp_path / "videos"
    assert ids(discover([str(videos)])) == ["a/sub/3.mp4", "b/1.mp4", "c/2.mp4"]
    assert ids(discover([str(videos / "d"), str(videos / "c")])) == ["c/2.mp4", "c/sub/3.mp4", "d/2.mp4", "d/sub/3.mp4"]


def test_folders_that_link_to_each_other_end(tmp_path):
    """Each of 12 folders links to all others: more than 10^8 paths without a loop in them."""
    folders = [tmp_path / f"{number:02}" for number in range(12)]
    for folder in folders:
        put(folder, "clip.mp4")
        for other in folders:
            (folder / f"to_{other.name}").symlink_to(other)
    assert ids(discover([str(tmp_path)])) == [f"{folder.name}/clip.mp4" for folder in folders]


def test_what_is_no_file_gets_a_row_and_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "broken.mp4").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    (tmp_path / "broken.txt").symlink_to(tmp_path / "nowhere")
    found = discover([str(tmp_path)])
    assert refusals(found) == [
        ("broken.mp4", "unreadable", "broken_link"),
        ("loop.mp4", "unreadable", "broken_link"),
        ("pipe.mp4", "skipped", "not_a_regular_file"),
    ]
    assert found.num_other == 2


def test_a_name_that_is_not_utf8_keeps_its_bytes(tmp_path):
    name = b"caf\xe9.mp4"
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_bytes(b"x")
    found = discover([str(tmp_path)])
    assert [os.fsencode(video.id) for video in found.videos] == [name]


def test_nothing_found_says_what_was_there(tmp_path):
    put(tmp_path, "a.txt", "b.jpg")
    with pytest.raises(
        UsageError, match=r"no video found in .* \(2 other files\); accepted suffixes: .*\.mp4"
    ) as caught:
        discover([str(tmp_path)])
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="does not exist"):
        discover([str(tmp_path / "missing")])
    with pytest.raises(UsageError, match="no input"):
        discover([])
    with pytest.raises(UsageError, match="empty string"):
        discover([""])
