"""The page by itself: its policy, what is embedded in it, links, the folder form."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from rratag.errors import UsageError
from rratag.explain import page, summary
from rratag.explain.page import ReportFolder, embedded, link, render

HOSTILE = "</script><img src=x onerror=alert(1)>\u2028&'\"\udcff"
HEAD: dict[str, Any] = {
    "title": HOSTILE.replace("\udcff", ""),
    "written": "2026-01-02 03:04 UTC",
    "version": "0",
    "num_videos": 1,
    "num_tagged": 0,
    "num_labelled": 0,
    "num_trained": 0,
    "num_unknown": 0,
    "num_missing": 0,
    "failures": [{"name": "<b>x", "status": "unreadable", "reason": "empty", "message": "<i>"}],
    "facts": [("videos", "<u>")],
    "random_backbone": True,
    "charts": [],
    "unsure": 0.5,
    "with_gradients": 0,
    "scores": summary.figures(None),
}


class Tags(HTMLParser):
    """Elements and attributes of a page, and the text of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.inside = tag in ("script", "style")
        if self.inside:
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data


def test_the_policy_lets_the_own_script_and_style_run_and_nothing_else() -> None:
    text = render(HEAD, {"videos": []}).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "'self' data:"
    style, _, script = (
        f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in Tags(text).texts
    )
    assert (rules["style-src"], rules["script-src"]) == (style, script)
    assert text.index("Content-Security-Policy") < text.index("<style")


def test_nothing_of_a_name_becomes_markup() -> None:
    data = {"videos": [{"name": HOSTILE}], HOSTILE: HOSTILE}
    text = render(HEAD, data).decode()
    tags = Tags(text)
    assert [tag for tag, _ in tags.found if tag in ("img", "b", "i", "u")] == []
    assert not any(name.startswith("on") or name == "style" for _, attributes in tags.found for name in attributes)
    assert json.loads(tags.texts[1]) == data


def test_embedded_json_is_plain_ascii_without_signs_of_markup() -> None:
    text = embedded([HOSTILE, 1.5])
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == [HOSTILE, 1.5]


@pytest.mark.parametrize("name", ["a.mp4", "javascript:alert(1).mp4", "a b#?%41&.mp4", "\udcff\u202eé.mp4"])
def test_links_are_relative_and_lead_back_to_the_file(name: str) -> None:
    found = link(Path("/videos/set") / name, Path("/videos/out"))
    assert re.fullmatch(r"[\w./%~-]+", found)
    assert found.startswith("../")
    way = os.path.normpath(os.path.join(b"/videos/out", unquote_to_bytes(found)))
    assert way == os.fsencode(os.path.normpath(Path("/videos/set") / name))


def test_a_link_beside_the_page_is_no_scheme() -> None:
    assert link(Path("/v/javascript:alert(1).mp4"), Path("/v")) == "javascript%3Aalert%281%29.mp4"


def test_paths_are_shown_as_seen_from_the_report() -> None:
    assert page.seen_from(Path("/home/somebody/clips\udcff"), Path("/home/somebody/out")) == "../clips\\xff"


def test_a_folder_replaces_a_report_and_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "report"
    for content in (b"one", b"two"):
        with ReportFolder(place) as folder:
            assert folder.picture(7, content) == "pictures/000007.jpg"
            folder.finish(content)
        assert (place / page.PAGE).read_bytes() == (place / "pictures/000007.jpg").read_bytes() == content
        assert [one.name for one in tmp_path.iterdir()] == ["report"]
    (tmp_path / "ordinary").mkdir()
    assert place.stat().st_mode == (tmp_path / "ordinary").stat().st_mode
    (place / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is no report"):
        ReportFolder(place)
    assert (place / "notes.txt").exists()
    with pytest.raises(UsageError, match="does not exist"):
        ReportFolder(tmp_path / "gone" / "report")


def test_a_folder_that_was_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with ReportFolder(tmp_path / "report") as folder:
        folder.picture(0, b"x")
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_history_that_cannot_be_read_draws_nothing(tmp_path: Path) -> None:
    assert summary.charts(tmp_path, 2) == []
    history = tmp_path / "history.csv"
    for text in ("", "epoch\n1\n", "epoch,train_Le\n1,nan\n", "epoch,train_Le\n1,\n", '"\n', "\x00"):
        history.write_text(text)
        assert summary.charts(tmp_path, 2) == []
    history.write_text("epoch,train_glimpse_1,train_glimpse_2,train_Le\n1,2,3,2.5\n2,1,2,1.5\n")
    (drawn,) = summary.charts(tmp_path, 2)
    assert drawn.count("<polyline") == 3
    assert "<title>glimpse 2</title>" in drawn
