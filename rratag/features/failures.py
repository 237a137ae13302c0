"""Notes of contents that failed: ``failed/<key>.json`` of a spec, so that they are not tried again in every run."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from rratag import files, sealed, untrusted
from rratag.features.catalog import receipt_from_json, receipt_to_json
from rratag.features.store import SpecStore
from rratag.records import Receipt

logger = logging.getLogger(__name__)

FAILURE_BYTES = 2**16


def keep_failure(store: SpecStore, key: str, receipt: Receipt) -> None:
    """Note that this content failed, one attempt more; only a warning if the note cannot be written."""
    path = store.failures / f"{key}.json"
    before = _failure(path).get("attempts")
    attempts = before if isinstance(before, int) else 0
    known = receipt_to_json(replace(receipt, seconds=0.0)) | {"attempts": attempts + 1}
    try:
        path.parent.mkdir(exist_ok=True)
        files.write_atomically(path, sealed.to_bytes(known))
    except OSError as error:
        logger.warning("%s: cannot be written (%s)", path, error.strerror)


def read_failure(store: SpecStore, key: str, video_id: str) -> Receipt | None:
    """The failure noted of this content; None if there is none, or the note is damaged."""
    known = _failure(store.failures / f"{key}.json")
    for other in ("attempts", sealed.FIELD):
        known.pop(other, None)
    receipt = receipt_from_json(video_id, known)
    return None if receipt is None or receipt.usable else receipt


def _failure(path: Path) -> dict[str, Any]:
    """What a note of a failure says; empty if there is none, or it is damaged."""
    try:
        content = untrusted.read_bytes(path, FAILURE_BYTES)
        known = untrusted.parse_json(content)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and sealed.is_whole(content) else {}
