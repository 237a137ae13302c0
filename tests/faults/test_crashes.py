"""Killed or without power at any operation of any writer: the old or the new, whole; the next run mends the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.writers import WRITERS, kill_faults, power_faults


@pytest.mark.parametrize("name", WRITERS)
def test_a_kill_at_any_operation(name: str, tmp_path: Path) -> None:
    assert list(kill_faults(WRITERS[name], tmp_path)) == []


@pytest.mark.parametrize("name", WRITERS)
def test_power_lost_at_any_operation(name: str, tmp_path: Path) -> None:
    assert list(power_faults(WRITERS[name], tmp_path)) == []
