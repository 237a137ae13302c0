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


def test_stars_for_folders_end_where_links_lead_in_circles(tmp_path, monkeypatch):
    """Each of 6 folders links to all: taken literally, ``**`` stands for 6^40 of their paths."""
    folders = [tmp_path / f"{number}" for number in range(6)]
    for folder in folders:
        put(folder, "clip.mp4", ".hidden/clip.mp4")
        for other in folders:
            (folder / f"to_{other.name}").symlink_to(other)
    monkeypatch.chdir(tmp_path)
    expected = [f"{folder.name}/clip.mp4" for folder in folders]
    assert ids(discover(["**/*.mp4"])) == expected
    assert ids(discover([f"{tmp_path}/**/**/clip.*"])) == expected
    assert len(ids(discover(["[2]/**/c*.mp4"]))) == 6
    assert ids(discover(["**/to_3/*.mp4"])) == [f"{name}/to_3/clip.mp4" for name in range(6)]
    found = discover(["**"])
    assert (ids(found), refusals(found)) == (expected, [])


def test_stars_for_folders_follow_links_and_match_what_the_rest_says(tmp_path):
    put(tmp_path, "videos/a/x/1.mp4", "videos/b/2.mp4", "outside/x/3.mp4", "videos/x[1]/4.mp4")
    (tmp_path / "videos/linked").symlink_to(tmp_path / "outside")
    (tmp_path / "videos/linked_again").symlink_to(tmp_path / "outside")
    videos = tmp_path / "videos"
    assert ids(discover([f"{videos}/**/x/*.mp4"])) == ["a/x/1.mp4", "linked/x/3.mp4"]
    assert ids(discover([f"{videos}/**/*.mp4"])) == ["a/x/1.mp4", "b/2.mp4", "linked/x/3.mp4", "x[1]/4.mp4"]
    assert ids(discover([f"{videos}/**/x/**/*.mp4"])) == ["a/x/1.mp4", "linked/x/3.mp4"]
    assert ids(discover([f"{videos}/**/"])) == ["a/x/1.mp4", "b/2.mp4", "linked/x/3.mp4", "x[1]/4.mp4"]
    with pytest.raises(UsageError, match="matches nothing"):
        discover([f"{videos}/**/5.mp4"])


def test_other_files_are_counted_once(tmp_path):
    put(tmp_path, "a.mp4", "notes.txt", "sub/b.mp4", "sub/notes.txt")
    found = discover([str(tmp_path), str(tmp_path / "sub"), f"{tmp_path}/s*"])
    assert (ids(found), found.num_other) == (["a.mp4", "sub/b.mp4"], 2)


def test_a_folder_behind_more_links_than_the_system_follows_has_a_row(tmp_path):
    outside = tmp_path / "outside"
    put(outside, *(f"{number}/clip.mp4" for number in range(60)))
    for number in range(59):
        (outside / f"{number}/next").symlink_to(outside / f"{number + 1}")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/start").symlink_to(outside / "0")
    found = discover([str(tmp_path / "videos")])
    depth = len(found.videos)
    assert 20 <= depth < 60
    ((video, status, reason),) = refusals(found)
    assert (video, status, reason) == ("start" + depth * "/next", "unreadable", "broken_link")
    # what another path leads to is not lost, so it has no row of that kind
    (tmp_path / "videos/zzz").symlink_to(outside / f"{depth}")
    found = discover([str(tmp_path / "videos")])
    assert (len(found.videos), refusals(found)) == (60, [])


def test_a_long_chain_of_links_is_gone_along_once(tmp_path, monkeypatch):
    """3000 links, each to the one before it, and the last ones to a folder that nothing else leads to."""
    put(tmp_path, "outside/a.mp4", "videos/b.mp4")
    for number in range(3000):
        (tmp_path / f"videos/{number}").symlink_to(f"{number - 1}" if number else tmp_path / "outside")
    calls = []
    readlink = os.readlink
    monkeypatch.setattr(os, "readlink", lambda path: calls.append(path) or readlink(path))
    found = discover([str(tmp_path / "videos")])
    assert (ids(found), refusals(found), found.num_other) == (["0/a.mp4", "b.mp4"], [], 3000 - 40)
    assert 2900 < len(calls) <= 3000


def test_a_long_line_of_what_is_no_list_is_cut(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xff" * 100_000)
    with pytest.raises(UsageError, match="does not exist") as caught:
        discover([str(tmp_path / "list.txt")])
    assert len(str(caught.value)) < 1000


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


def test_an_input_that_cannot_be_listed_stops_the_run_and_replaces_nothing(tmp_path, monkeypatch):
    """A network disk that is away for a moment must not look like an empty folder."""
    (tmp_path / "a.mp4").write_bytes(b"x")

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match="cannot be listed: Permission denied"):
        discover([str(tmp_path)])
