"""Every nasty input, in one table."""

from __future__ import annotations

from pathlib import Path

from tests.nasty.broken import BROKEN
from tests.nasty.films import FILMS
from tests.nasty.kitchen import Kitchen, Nasty
from tests.nasty.not_videos import NAMES, NOT_VIDEOS

TABLE: list[Nasty] = [*NOT_VIDEOS, *NAMES, *FILMS, *BROKEN]


def make_all(folder: Path, scratch: Path) -> None:
    """Make every input of the table in `folder`."""
    kitchen = Kitchen(scratch)
    for row in TABLE:
        row.make(kitchen, folder / row.name)
