"""A report with hostile names and labels, in one file and in a folder, and a browser to look at it.

The browser is Debian's ``chromium`` or what RRATAG_CHROMIUM names; where it or Playwright is missing the tests skip.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rratag.explain import build
from tests.conftest import TINY_OPTIONS, CommandLine, coloured, encode

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",  # which root may not use
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
BLUE = "</script><img src=x onerror=window.hacked=1>"
RED = '=red, "quoted" \\xff'
HOSTILE = (
    "red/<img src=x onerror=window.hacked=2>.mp4",
    "red/javascript:window.hacked=3.mp4",
    os.fsdecode(b"blue/caf\xe9 #?%41.mp4"),
    "blue/=1+1,\"'.mp4",
    "@\u202egnp.mp4",
    "bird 🐦 ☃.mp4",
)


@dataclass
class Reports:
    """``videos`` with labels in ``labels``, cached in ``cache``; ``page`` and ``index`` show them."""

    folder: Path
    index: Path = field(init=False)

    def __post_init__(self) -> None:
        self.videos, self.labels, self.cache = (self.folder / name for name in ("videos", "labels.csv", "cache"))
        self.model, self.page = self.folder / "model", self.folder / "report.html"
        self.index = self.folder / "report" / "index.html"


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory, encoded_clips: Path) -> Reports:
    """Seventeen videos, six of them with hostile names, one of them broken; ten labelled by a file. Read only."""
    made = Reports(tmp_path_factory.mktemp("reports"))
    shutil.copytree(encoded_clips, made.videos)
    for number, name in enumerate(HOSTILE):
        encode(made.videos / name, coloured("blue" if number % 2 else "red", 500 + number))
    (made.videos / "broken.mp4").write_bytes(b"")
    quoted = {label: '"' + label.replace('"', '""') + '"' for label in (BLUE, "'" + RED.replace("\\xff", "\\x5cxff"))}
    rows = [
        f"{colour}/{number}.mp4,{label}"
        for colour, label in zip(("blue", "red"), quoted.values(), strict=True)
        for number in range(5)
    ]
    made.labels.write_text("\n".join(["video,label", *rows]) + "\n", encoding="utf-8")
    cli = CommandLine()
    cache = ("--cache", made.cache)
    assert cli("extract", made.videos, *TINY_OPTIONS, *cache).code == 3
    train = ("--epochs", 2, "--glimpses", 3, "--batch-size", 4, "--labels", made.labels, "--out", made.model)
    assert cli("train", made.videos, *train, *cache).code == 0
    wanted = ("--model", made.model, "--labels", made.labels, "--gradient", 3, *cache)
    assert cli("report", made.videos, *wanted, "--out", made.page).code == 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "LARGEST_FILE", 5)
        assert cli("report", made.videos, *wanted, "--out", made.page).code == 3
    assert made.index.is_file()
    return made


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    driver = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: pip install playwright")
    program = os.environ.get("RRATAG_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium, or name one in RRATAG_CHROMIUM")
    with driver.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield started
        started.close()


Open = Callable[..., "Page"]


@pytest.fixture
def look(browser: Browser) -> Iterator[Open]:
    """Opens a page; at the end nothing may have been said on its console or asked of anybody."""
    contexts, said = [], []

    def show(file: Path, width: int = 1280, height: int = 900, scheme: str = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: said.append(request.url) if not allowed(request.url, file) else None)
        page.on("requestfailed", lambda request: said.append(f"failed {request.url}"))
        page.goto(file.as_uri())
        page.wait_for_selector(".card")
        return page

    yield show
    for context in contexts:
        context.close()
    assert said == []


def allowed(address: str, file: Path) -> bool:
    """Whether a page may ask for this: itself, what it holds, and the pictures beside it."""
    beside = (file.parent / "pictures").as_uri() + "/"
    return address == file.as_uri() or address.startswith(("data:image/jpeg;base64,", "data:,", "blob:", beside))
