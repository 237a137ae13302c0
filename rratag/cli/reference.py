"""Write docs/cli.md from the commands: ``python -m rratag.cli.reference [--check]``, called by ``make docs``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from rratag.cli.app import app

WIDTH = 100
"""Columns of the help text, whatever the terminal."""

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"

INTRODUCTION = """# Command line

Written by `make docs` from the commands themselves; do not edit.

- stdout carries results only. Progress, messages and the closing summary go to stderr.
- A setting is looked for in this order: option, `RRATAG_*` variable, `rratag.toml` in the working folder, default.
- Exit codes: 0 all well; 1 nothing usable was produced, or the run was stopped; 2 wrong usage; 3 finished, but some
  videos failed (see [statuses](statuses.md)); 130 interrupted.

`rratag.toml` holds options by their names without the leading dashes: at the top for every command that has them, below
`[COMMAND]` for one command.

```toml
cache = "cache"
workers = 4

[train]
glimpses = 4
loss = "Li+Le"
```

Every command also runs as `python -m rratag COMMAND`.
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its help: what is typed to reach it, and its context. ``rratag`` itself comes first."""
    yield from _walk(get_command(app), "rratag", None)


def _walk(command: Any, name: str, parent: Any) -> Iterator[tuple[str, Any]]:
    # parsing no arguments runs no callback, so that neither rratag.toml nor the environment shows in the defaults
    context = command.make_context(name, [], parent=parent, resilient_parsing=True, terminal_width=WIDTH)
    yield context.command_path, context
    for short, inner in getattr(command, "commands", {}).items():
        yield from _walk(inner, short, context)


def page() -> str:
    """Content of docs/cli.md."""
    parts = [INTRODUCTION]
    for name, context in commands():
        text = "\n".join(line.rstrip() for line in context.get_help().splitlines()).strip()
        parts.append(f"## {name}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or with ``--check`` say whether it is up to date; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rratag.cli.reference", description="Write docs/cli.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of date")
    if parser.parse_args(arguments).check:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page():
            return 0
        sys.stderr.write(f"{PAGE}: out of date; run: make docs\n")
        return 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
