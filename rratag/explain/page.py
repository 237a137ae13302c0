"""A report becomes a page: one HTML file, or a folder with its pictures as files. No network, no inline handlers.

The page says by its Content-Security-Policy what may run: the one style sheet and the one script, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rratag import files
from rratag.errors import UsageError
from rratag.evaluate.matrix import readable
from rratag.tag.writers import check_place

TEMPLATES = Path(__file__).parent / "templates"
PAGE, PICTURES = "index.html", "pictures"
FILES = frozenset({PAGE, PICTURES})
"""What a folder of ours holds."""


def render(head: Mapping[str, Any], data: Mapping[str, Any]) -> bytes:
    """The page.

    Parameters
    ----------
    head : what the template shows by itself
    data : what the script shows
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (_asset(name) for name in ("report.css", "report.js"))
    policy = (
        f"default-src 'none'; img-src 'self' data:; style-src {_hash(style)}; script-src {_hash(script)};"
        " base-uri 'none'; form-action 'none'"
    )
    text = environment.get_template("report.html").render(
        **head, policy=policy, style=style, script=script, data=embedded(data)
    )
    return text.encode()


def _asset(name: str) -> str:
    return "\n" + (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def embedded(data: Any) -> str:
    """JSON that may stand inside a script element: plain ASCII without ``<``, ``>`` and ``&``."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def link(video: Path, folder: Path) -> str:
    """Where a page in `folder` finds a video, both absolute: a relative address, any byte of it percent-encoded."""
    try:
        path = os.path.relpath(video, folder)
    except ValueError:  # on another drive
        return video.as_uri()
    return quote(os.fsencode(path.replace(os.sep, "/")))


def seen_from(path: Path, folder: Path) -> str:
    """`path` as it is called from `folder`, for a reader: whose machine it is belongs to nobody else."""
    try:
        return readable(os.path.relpath(path, folder))
    except ValueError:  # on another drive
        return readable(str(path))


class ReportFile:
    """A report that is one file; use as a context manager, as `ReportFolder`.

    Attributes
    ----------
    page : the HTML file
    folder : where it lies, from which links lead to the videos

    Raises
    ------
    UsageError
        If it cannot be written.
    """

    def __init__(self, place: Path) -> None:
        check_place(place, "--out")
        self.page, self.folder = place, place.parent

    def __enter__(self) -> ReportFile:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def picture(self, number: int, jpeg: bytes) -> str:
        """The address of a picture, which holds it."""
        return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"

    def finish(self, content: bytes) -> None:
        """Write the page."""
        files.write_atomically(self.page, content)


class ReportFolder:
    """A report with its pictures as files: filled beside its place, and put there as a whole.

    Raises
    ------
    UsageError
        If something else is in its place, or it cannot be made.
    """

    def __init__(self, place: Path) -> None:
        check_folder(place)
        self.page, self.folder = place / PAGE, place

    def __enter__(self) -> ReportFolder:
        self.scratch = Path(tempfile.mkdtemp(prefix=files.TEMPORARY_PREFIX, dir=self.folder.parent))
        self.new = self.scratch / "new"
        (self.new / PICTURES).mkdir(parents=True)
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)

    def picture(self, number: int, jpeg: bytes) -> str:
        """Keep a picture; its address."""
        name = f"{PICTURES}/{number:06d}.jpg"
        (self.new / name).write_bytes(jpeg)
        return name

    def finish(self, content: bytes) -> None:
        """Write the page, and put the folder in its place; what was there goes."""
        (self.new / PAGE).write_bytes(content)
        if self.folder.exists():
            os.rename(self.folder, self.scratch / "old")
        os.rename(self.new, self.folder)


def check_folder(place: Path) -> None:
    """Refuse a folder that is not ours to replace, before hours of work.

    Raises
    ------
    UsageError
        If so, or if it cannot be made.
    """
    if not place.parent.is_dir() or not os.access(place.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{place}: folder {place.parent} does not exist or cannot be written; give another --out")
    if place.is_dir() and not any(place.iterdir()):
        return
    if place.exists() and not (place.is_dir() and {one.name for one in place.iterdir()} == FILES):
        raise UsageError(f"{place}: is there and is no report; choose another --out")
