"""The numbered clips, in a fresh folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clips import Clips


@pytest.fixture
def clips(tmp_path: Path) -> Clips:
    """Make clips in a fresh folder."""
    return Clips(tmp_path)
