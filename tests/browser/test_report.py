"""The report as people use it, in a real browser: filters, sorting, keys, corrections, and what must not happen."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from rratag.data.labels import from_csv
from rratag.explain import summary
from rratag.explain.page import render
from rratag.explain.report import Truth, card, judged
from rratag.records import Instance
from tests.browser.conftest import BLUE, HOSTILE, RED, Open, Reports
from tests.conftest import CommandLine
from tests.explain.test_page import HEAD
from tests.explain.test_report import NAMES, prediction

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NUM_VIDEOS = 17


def data_of(page: Page) -> dict[str, Any]:
    """What the page was built from."""
    return dict(page.evaluate("JSON.parse(document.getElementById('report-data').textContent)"))


def names(page: Page) -> list[str]:
    """Names on the cards of the list, all of it."""
    for _ in range(20):
        if page.locator("#more").text_content():
            page.locator("#more").scroll_into_view_if_needed()
            page.wait_for_timeout(100)
    assert not page.locator("#more").text_content()
    return page.locator(".card h3").all_text_contents()  # what is out of sight has no inner text


def shown_names(videos: list[dict[str, Any]]) -> set[str]:
    return {video["name"] for video in videos}


def test_every_video_has_a_card_and_no_picture_is_broken(look: Open, reports: Reports) -> None:
    for file in (reports.page, reports.index):
        page = look(file)
        assert set(names(page)) == shown_names(data_of(page)["videos"])
        assert page.locator(".card").count() == NUM_VIDEOS
        page.evaluate("for (const one of document.images) one.loading = 'eager'")
        page.wait_for_function("[...document.images].every((one) => one.complete)")
        assert page.evaluate("[...document.images].filter((one) => !one.naturalWidth).length") == 0
        assert page.evaluate("[...document.images].filter((one) => !one.alt).length") == 0
        # three frames a video, each in the strip and enlarged
        assert page.locator("img").count() == (NUM_VIDEOS - 1) * 6


def test_frames_are_those_of_the_times_below_them(look: Open, reports: Reports) -> None:
    for file in (reports.page, reports.index):
        page = look(file)
        names(page)
        made = page.locator('.card[aria-label="blue/3.mp4"]')
        made.scroll_into_view_if_needed()
        places = []
        for figure in made.locator("figure").all():
            window = figure.locator(".window")
            window.hover()  # which takes the heat away
            page.wait_for_function(
                "[...document.images].filter((one) => one.closest('.card:hover')).every((one) => one.complete)"
            )
            picture = np.asarray(Image.open(io.BytesIO(window.screenshot())).convert("RGB"))
            bright = 2 + np.flatnonzero((picture.min(2) > 180).sum(0)[2:-2] > picture.shape[0] / 8)  # not its edges
            time_s = float(str(figure.locator("figcaption").text_content()).split()[0])
            # the square is a fifth of the picture wide and begins after a tenth of it for each tenth of a second
            assert bright.mean() / picture.shape[1] == pytest.approx(time_s + 0.1, abs=0.03)
            places.append(time_s)
        assert places == [0.1, 0.4, 0.6] * 2


def test_filters_show_what_they_say(look: Open, reports: Reports) -> None:
    page = look(reports.page)
    data = data_of(page)
    tagged = [video for video in data["videos"] if video["rows"]]
    first = {video["name"]: data["tags"][video["rows"][0][0]]["name"] for video in tagged}
    truth = {video["name"]: [one["name"] for one in video["truth"]] for video in data["videos"]}
    wanted = {
        "errors": {name for name in first if truth[name] and first[name] not in truth[name]},
        "unsure": {video["name"] for video in tagged if video["rows"][0][1] < 0.5},
        "disagree": {video["name"] for video in tagged if len({*video["firsts"], video["rows"][0][0]}) > 1},
        "unseen": {video["name"] for video in tagged if not video["trained"]},
    }
    assert wanted["unseen"] != set(first) or pytest.fail("the model was trained on some of them")
    for name, videos in wanted.items():
        button = page.locator(f"[data-only={name}]")
        assert button.inner_text().endswith(f" {len(videos)}")
        button.click()
        assert set(names(page)) == videos
        assert button.get_attribute("aria-pressed") == "true"
        page.locator("#reset").click()
    page.locator("#status").select_option("unreadable")
    assert names(page) == ["broken.mp4"]
    page.locator("#reset").click()
    page.locator("#tag").select_option(RED)
    assert set(names(page)) == {name for name in truth if RED in truth[name] or first.get(name) == RED}
    page.locator("#reset").click()
    for typed in ("JAVASCRIPT:", "🐦", "blue/ 3"):
        page.locator("#search").fill(typed)
        found = names(page)
        assert found == sorted(found, key=found.index)
        assert set(found) == {
            name
            for name in truth
            if all(
                word in "\n".join([name, first.get(name, ""), *truth[name]]).lower() for word in typed.lower().split()
            )
        }
        assert page.locator("#found").inner_text() == f"{len(found)} of {NUM_VIDEOS}"
    page.locator("#reset").click()
    assert page.locator("#found").inner_text() == f"{NUM_VIDEOS} videos"


def test_a_confused_pair_shows_its_videos(look: Open, tmp_path: Path) -> None:
    videos = [prediction(f"{number}.mp4", number) for number in range(40)]
    labels = {one.video: [Instance(one.video, "", NAMES[place % 2])] for place, one in enumerate(videos)}
    truth = Truth(labels, trained=frozenset(one.video for one in videos[:10]))
    evaluation, _ = judged(videos, truth)
    scores = summary.figures(evaluation)
    cards = [card(one, [1, 1, 1], np.array([[0, 0, 1, 1]]), labels[one.video]) for one in videos]
    data = {
        "run": "0",
        "unsure": 0.5,
        "tags": [{"name": name, "shown": name} for name in NAMES],
        "glimpses": 3,
        "pairs": [one["tags"] for one in scores["pairs"]],
        "videos": [{**one, "href": "", "trained": one["id"] in truth.trained} for one in cards],
    }
    file = tmp_path / "report.html"
    file.write_bytes(render({**HEAD, "scores": scores}, data))
    page = look(file)
    buttons = page.locator(".pair")
    assert buttons.count() == len(scores["pairs"]) > 3
    for place, pair in enumerate(scores["pairs"]):
        buttons.nth(place).click()
        found = names(page)
        assert len(found) == pair["count"]
        for name in found:
            one = next(video for video in videos if video.video == name)
            assert name not in truth.trained
            assert (labels[name][0].label, NAMES[one.ranking()[0]]) == tuple(pair["tags"])
    buttons.nth(len(scores["pairs"]) - 1).click()
    assert len(names(page)) == len(videos)


def test_sorting(look: Open, reports: Reports) -> None:
    page = look(reports.page)
    videos = {video["name"]: video for video in data_of(page)["videos"]}
    for order, value in (
        ("least", lambda video: video["rows"][0][1]),
        ("most", lambda video: -video["rows"][0][1]),
        ("margin", lambda video: video["margin"]),
    ):
        page.locator("#sort").select_option(order)
        found = names(page)
        values = [value(videos[name]) for name in found[:-1]]
        assert values == sorted(values)
        assert found[-1] == "broken.mp4"
    page.locator("#sort").select_option("name")
    assert names(page) == list(videos)


def test_scores_on_a_card_are_those_of_the_data(look: Open, reports: Reports) -> None:
    page = look(reports.page)
    videos = {video["name"]: video for video in data_of(page)["videos"]}
    names(page)
    for made in page.locator(".card:not(.failed)").all():
        video = videos[str(made.get_attribute("aria-label"))]
        cells = [
            [float(cell) for cell in row.locator("td").all_text_contents()] for row in made.locator("tbody tr").all()
        ]
        for row, (_, *shares) in zip(cells, video["rows"], strict=True):
            assert row == pytest.approx(shares, abs=6e-4)
        share = "(bar) => bar.getBoundingClientRect().width / bar.parentElement.getBoundingClientRect().width"
        width = made.locator("tbody .bar i").first.evaluate(share)
        assert width == pytest.approx(video["rows"][0][1], abs=0.03)
        rect = made.locator(".time rect").nth(4)  # the second glimpse's second frame of three
        row = video["attention"][1]
        assert float(str(rect.get_attribute("fill-opacity"))) == pytest.approx(row[1] / max(row), abs=1e-3)


def test_heat_lies_where_the_levels_are(look: Open, reports: Reports) -> None:
    page = look(reports.page)
    found = page.evaluate(
        """() => {
          const data = JSON.parse(document.getElementById("report-data").textContent);
          const made = [];
          for (const card of document.querySelectorAll(".card:not(.failed)")) {
            const video = data.videos.find((one) => one.name === card.getAttribute("aria-label"));
            const levels = Uint8Array.from(atob(video.heat.levels), (sign) => sign.charCodeAt(0));
            [...card.querySelectorAll("canvas")].forEach((canvas, frame) => {
              const drawn = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
              const size = canvas.width * canvas.height;
              const from = (video.speaking * video.enlarged.length + frame) * size;
              made.push([...levels.slice(from, from + size)].map((level, k) => [level, drawn[4 * k + 3]]));
            });
          }
          return made;
        }"""
    )
    assert found
    for canvas in found:
        for level, opacity in canvas:
            assert (opacity == 0) == (level < 6) or abs(opacity - 235 * min(1, 1.3 * level / 255) ** 1.2) < 2
            assert opacity == pytest.approx(235 * min(1, 1.3 * level / 255) ** 1.2, abs=2)


def test_keys(look: Open, reports: Reports) -> None:
    page = look(reports.page)
    order = names(page)
    page.evaluate("window.scrollTo(0, 0)")

    def here() -> str | None:
        return page.evaluate("document.activeElement.getAttribute('aria-label')")

    for key, place in (("j", 0), ("j", 1), ("ArrowRight", 2), ("k", 1), ("ArrowLeft", 0), ("k", 0)):
        page.keyboard.press(key)
        assert here() == order[place]
    card = page.locator(".card:focus")
    page.keyboard.press("3")
    assert card.locator("[aria-label=glimpse] [aria-pressed=true]").inner_text() == "3"
    page.keyboard.press("g")
    assert "influence" in card.locator("[aria-label='what is shown'] [aria-pressed=true]").inner_text()
    top = card.bounding_box()
    tools = page.locator("#tools").bounding_box()
    assert top is not None
    assert tools is not None
    assert tools["y"] + tools["height"] <= top["y"] <= 300
    page.keyboard.press("/")
    page.keyboard.type("jk3")
    assert page.locator("#search").input_value() == "jk3"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement === document.body")


def test_nothing_that_a_name_or_label_says_is_done(look: Open, reports: Reports) -> None:
    for file in (reports.page, reports.index):
        page = look(file)
        names(page)
        assert page.evaluate("window.hacked") is None
        assert page.locator("img[src=x]").count() == 0
        links = page.locator(".card a").evaluate_all("(all) => all.map((one) => one.href)")
        assert len(links) == NUM_VIDEOS
        assert all(link.startswith(reports.videos.as_uri() + "/") for link in links)


def test_a_script_that_somebody_slips_in_does_not_run(browser: Browser, reports: Reports, tmp_path: Path) -> None:
    text = reports.page.read_text().replace("</body>", "<script>window.hacked = 4</script><p onclick='x()'></p></body>")
    changed = tmp_path / "changed.html"
    changed.write_text(text)
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(changed.as_uri())
    page.wait_for_selector(".card")
    page.locator("p[onclick]").dispatch_event("click")
    assert page.evaluate("window.hacked") is None
    assert sum("Content Security Policy" in one for one in said) == 2
    page.close()


def test_corrections_close_the_loop(look: Open, reports: Reports, tmp_path: Path) -> None:
    page = look(reports.page)
    names(page)
    page.locator('.card[aria-label="red/0.mp4"] .correct button', has_text="onerror").click()
    wrong = HOSTILE[0]
    page.locator(f'.card[aria-label="{wrong}"] .correct button', has_text="quoted").click()
    typed = {HOSTILE[2]: '@new, "odd" tag', HOSTILE[3]: "'=x", HOSTILE[5]: "\\x41 🐦", "red/1.mp4": "first"}
    shown = {video["id"]: video["name"] for video in data_of(page)["videos"]}
    shown |= {os.fsdecode(b"blue/caf\xe9 #?%41.mp4"): "blue/caf\\xe9 #?%41.mp4"}
    for video, label in typed.items():
        place = [card for card in page.locator(".card").all() if card.get_attribute("aria-label") == shown[video]]
        place[0].locator(".correct input").fill(label)
        place[0].locator(".correct input").press("Tab")
    # taken back: the button once more
    for _ in range(2):
        page.locator('.card[aria-label="red/2.mp4"] .correct button', has_text="onerror").click()
    assert page.locator("#corrected").inner_text() == "6 corrected"
    page.reload()
    page.wait_for_selector(".card")
    assert page.locator("#corrected").inner_text() == "6 corrected"
    page.locator("[data-only=corrected]").click()
    assert len(names(page)) == 6
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename == "labels.csv"
    file = tmp_path / "labels.csv"
    download.value.save_as(file)
    ids = {path.relative_to(reports.videos).as_posix(): "" for path in reports.videos.rglob("*.mp4")}
    found = {one.video: one.label for one in from_csv(file, ids).instances if one.label is not None}
    wanted = {
        f"{colour}/{number}.mp4": label for colour, label in (("blue", BLUE), ("red", RED)) for number in range(5)
    }
    assert found == wanted | {"red/0.mp4": BLUE, wrong: RED} | typed
    again = tmp_path / "again"
    options = ("--labels", file, "--epochs", 1, "--glimpses", 2, "--batch-size", 4, "--cache", reports.cache)
    ran = CommandLine()("train", reports.videos, *options, "--out", again)
    assert ran.code == 0, ran.err
    assert (again / "config.json").is_file()


@pytest.mark.parametrize("width", [400, 1280])
def test_no_sideways_scroll(look: Open, reports: Reports, width: int) -> None:
    page = look(reports.page, width=width)
    names(page)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    outside = (
        "[...document.querySelectorAll('.card *')].filter((one) => one.getBoundingClientRect().right > innerWidth + 1)"
    )
    assert page.evaluate(f"{outside}.filter((one) => !one.closest('.scroll, .heard')).length") == 0


def test_screenshots(look: Open, reports: Reports, tmp_path: Path) -> None:
    folder = Path(os.environ.get("RRATAG_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    for width, height in ((1280, 1000), (400, 860)):
        grounds = []
        for scheme in ("light", "dark"):
            page = look(reports.page, width, height, scheme)
            page.screenshot(path=folder / f"report-{width}-{scheme}-top.png")
            page.keyboard.press("j")
            page.wait_for_timeout(300)
            page.screenshot(path=folder / f"report-{width}-{scheme}-card.png")
            grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert grounds[0] != grounds[1]
