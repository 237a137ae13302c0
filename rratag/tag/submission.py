"""Predictions in the form that ActivityNet's challenges take: ``{version, external_data, results}``.

``results`` maps the id of a video to a list of ``{label, score}``. It holds neither glimpses nor evidence nor failed
videos, so it is a form to hand in and to judge, not one to keep tags in.
"""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rratag import untrusted
from rratag.data.cells import escape, unescape
from rratag.errors import UsageError
from rratag.untrusted import shown

if TYPE_CHECKING:
    from rratag.tag.rows import About, Tagged

SUFFIX = ".activitynet.json"
VERSION = "VERSION 1.3"
"""What the set's own files carry."""

_YOUTUBE = "[A-Za-z0-9_-]{11}"
_ACTIVITYNET = re.compile(f"v_({_YOUTUBE})")
_KINETICS = re.compile(rf"({_YOUTUBE})_\d{{6}}_\d{{6}}")


@dataclass(frozen=True)
class Submission:
    """Predictions of a file, flat and in its order: row i is of ``videos[video[i]]``.

    ``videos`` holds every id of the file, those without a prediction too. Scores are finite and of any size.
    """

    videos: Sequence[str]
    video: Sequence[int]
    labels: Sequence[str]
    scores: Sequence[float]


def is_submission(path: str | Path) -> bool:
    """Whether a file of this name is in this form."""
    return str(path).lower().endswith(SUFFIX)


def video_id(name: str) -> str:
    """The id under which a set knows the video of this path: the file's name without folder and suffix.

    Of ``v_`` and a YouTube id (ActivityNet's files), and of one with ``_start_end`` in six digits each (those of
    Kinetics), the YouTube id.
    """
    own = stem(name)
    found = _ACTIVITYNET.fullmatch(own) or _KINETICS.fullmatch(own)
    return found.group(1) if found else own


def stem(name: str) -> str:
    """The file's name without folder and suffix."""
    return posixpath.splitext(posixpath.basename(name))[0]


def check_ids(names: Iterable[str]) -> None:
    """Refuse videos that would have one id.

    Raises
    ------
    UsageError
        Naming two of them.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(video_id(name), name)
        if other != name:
            raise UsageError(
                f"{name} and {other} are both video {shown(video_id(name))} in ActivityNet's form; rename one, or tag"
                " them into two files"
            )


def begin(about: About) -> str:
    """What stands before the videos."""
    info = about.model.get("info", {})
    used = not info.get("random_backbone", False)
    details = f"CNN {about.spec.get('backbone')}, weights {str(about.spec.get('weights'))[:16]}" if used else ""
    external = json.dumps({"used": used, "details": details})
    return f'{{"version": "{VERSION}", "external_data": {external}, "results": {{\n'


def video(tagged: Tagged, about: About) -> str:
    """One video's id and predictions; nothing of a failed one."""
    rows = [{"label": escape(row.label), "score": row.score} for row in tagged.rows if row.rank is not None]
    if not rows:
        return ""
    return f"{json.dumps(escape(video_id(tagged.rows[0].video)))}: {json.dumps(rows, ensure_ascii=False)}"


def parse(text: str) -> Submission:
    """Predictions of a file in this form, whoever wrote it.

    Raises
    ------
    ValueError
        If it is not in this form, a video is there twice, or a score is no finite number.
    """
    content = untrusted.parse_json(text, max_values=len(text), make=_pair)
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise ValueError('no object "results"')
    number: list[int] = []
    labels: list[str] = []
    scores: list[float] = []
    for place, (name, rows) in enumerate(results.items()):
        if not isinstance(rows, list) or not all(isinstance(row, tuple) for row in rows):
            raise ValueError(f"video {shown(name)}: not a list of objects with label and score")
        own = [row[1] for row in rows]
        if not set(map(type, own)) <= {int, float} or not all(map(math.isfinite, own)):
            raise ValueError(f"video {shown(name)}: a score that is no number")
        if not all(isinstance(row[0], str) for row in rows):
            raise ValueError(f"video {shown(name)}: a label that is no text")
        number += [place] * len(rows)
        labels += [unescape(row[0]) for row in rows]
        scores += own
    return Submission([unescape(name) for name in results], number, labels, scores)


def _pair(found: dict[str, Any]) -> Any:
    """An object of label and score as a pair, which takes less memory; others as they are."""
    return (found["label"], found["score"]) if "label" in found and "score" in found else found
