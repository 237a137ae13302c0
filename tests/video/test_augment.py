"""Training views: which crops there are, what a video draws, and what a view shows."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import product

import numpy as np
import pytest
from PIL import Image

from rratag.errors import UsageError
from rratag.video.augment import PAIRS, PLACES, Draw, TrainingView, asked, check_views, draw, parse_views
from rratag.video.views import ViewRule

SIZES = [(256, 340), (340, 256), (256, 256), (96, 128), (64, 191), (230, 232), (70, 300)]


def sha256(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def slow_boxes(height: int, width: int, size: int) -> set[tuple[int, int, int, int]]:
    """All crops (top, left, height, width) that TSN's rule can give, listed step by step."""
    boxes = set()
    base = height if height < width else width
    scales = [1, 0.875, 0.75, 0.66]
    for i in range(4):
        for j in range(4):
            if i - j > 1 or j - i > 1:
                continue
            sides = []
            for scale in (scales[i], scales[j]):
                side = int(base * scale)
                if size - 2 <= side <= size + 2 and size <= base:
                    side = size
                sides.append(side)
            h, w = sides
            down, right = (height - h) // 4, (width - w) // 4
            corners = [(0, 0), (0, 4 * right), (4 * down, 0), (4 * down, 4 * right)]
            centre = [(2 * down, 2 * right)]
            edges = [(0, 2 * right), (4 * down, 2 * right), (2 * down, 0), (2 * down, 4 * right)]
            quarters = [(down, right), (down, 3 * right), (3 * down, right), (3 * down, 3 * right)]
            for top, left in corners + centre + edges + quarters:
                boxes.add((top, left, h, w))
    return boxes


@pytest.mark.parametrize("size", [224, 64, 66])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_crops_are_those_of_the_rule(height: int, width: int, size: int) -> None:
    boxes = {Draw(*pair, *place, mirrored=False).box(height, width, size) for pair, place in product(PAIRS, PLACES)}
    assert boxes == slow_boxes(height, width, size)
    for top, left, h, w in boxes:
        assert top >= 0
        assert left >= 0
        assert top + h <= height
        assert left + w <= width


def test_thirteen_places_and_ten_pairs() -> None:
    assert len(PLACES) == len(set(PLACES)) == 13
    assert len(PAIRS) == len(set(PAIRS)) == 10


def test_known_crops_of_a_stored_frame() -> None:
    """256x340 at 224, by hand: sides 256, 224, 192 and 168; 0.66 of 256 is 168.96."""
    assert Draw(0, 0, 4, 4, mirrored=False).box(256, 340, 224) == (0, 84, 256, 256)
    assert Draw(0, 1, 2, 1, mirrored=False).box(256, 340, 224) == (0, 29, 256, 224)
    assert Draw(3, 2, 3, 2, mirrored=False).box(256, 340, 224) == (66, 74, 168, 192)
    # 0.875 of 254 is 222.25: two pixels from the input, so the input; of 252 it is 220.5, and stays 220
    assert Draw(1, 1, 0, 0, mirrored=False).box(254, 340, 224)[2:] == (224, 224)
    assert Draw(1, 1, 0, 0, mirrored=False).box(252, 340, 224)[2:] == (220, 220)


def test_a_draw_is_of_content_and_number_alone() -> None:
    """Written out: other numbers here mean that every cached view of every user would be another."""
    assert [draw(sha256(video), 1) for video in range(3)] == [
        Draw(height=1, width=2, down=4, right=2, mirrored=True),
        Draw(height=2, width=2, down=4, right=4, mirrored=False),
        Draw(height=3, width=2, down=2, right=4, mirrored=False),
    ]
    assert [draw(sha256(0), view) for view in (2, 3)] == [
        Draw(height=0, width=0, down=4, right=2, mirrored=True),
        Draw(height=2, width=1, down=2, right=0, mirrored=False),
    ]


def test_draws_differ_between_videos_and_views_and_every_one_is_as_likely() -> None:
    found = [draw(sha256(video), view) for video in range(2000) for view in (1, 2)]
    for values, expected in (
        ([(one.height, one.width) for one in found], set(PAIRS)),
        ([(one.down, one.right) for one in found], set(PLACES)),
        ([one.mirrored for one in found], {False, True}),
    ):
        counts = Counter(values)
        assert counts.keys() == expected
        share = len(found) / len(expected)
        assert max(abs(count - share) for count in counts.values()) < 5 * np.sqrt(share)
    first, second = found[::2], found[1::2]
    # 260 equally likely draws: two are equal by chance alone
    assert sum(one == other for one, other in zip(first, second, strict=True)) < 2000 / 260 + 5 * np.sqrt(2000 / 260)
    assert len(Counter(first)) > 200


def picture(height: int, width: int) -> np.ndarray:
    """Red is the column, green the row, so that any mistaken place or axis shows."""
    image = np.full((height, width, 3), 90, np.uint8)
    image[..., 0] = np.linspace(0, 255, width).round()
    image[..., 1] = np.linspace(0, 255, height).round()[:, None]
    return image


@pytest.mark.parametrize("crops", ["full", "1", "squash"])
def test_a_view_is_the_crop_of_its_draw_resized_and_mirrored_with_it(crops: str) -> None:
    rule = ViewRule(crops, 64, 72, "bilinear")
    seen = set()
    for video in range(12):
        resized = rule.shrunk(picture(150, 250))
        drawn = draw(sha256(video), 3)
        top, left, height, width = drawn.box(*resized.shape[:2], 64)
        crop = Image.fromarray(resized[top : top + height, left : left + width])
        expected = np.asarray(crop.resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
        if drawn.mirrored:
            expected = expected[:, ::-1]
        found = TrainingView("tsn", 3).images(resized, rule, sha256(video))
        assert found.shape == (1, 64, 64, 3)
        assert found.dtype == np.uint8
        assert np.abs(found[0].astype(int) - expected).max() <= 1  # PIL rounds the two passes alike but for a step
        assert bool(found[0, 32, 0, 0] > found[0, 32, -1, 0]) == drawn.mirrored
        seen.add(drawn.mirrored)
    assert seen == {False, True}


@pytest.mark.parametrize(("crops", "num_views"), [("full", 1), ("1", 1), ("3", 3), ("squash", 1)])
def test_a_flip_mirrors_the_base_views_each(crops: str, num_views: int) -> None:
    rule = ViewRule(crops, 64, 72, "bilinear")
    image = picture(150, 250)
    base = rule.prepare(image)
    flipped = TrainingView("flip").images(rule.shrunk(image), rule, sha256(0))
    assert flipped.shape == base.shape
    assert len(flipped) == num_views
    for view in range(num_views):
        for column in range(base.shape[2]):
            assert np.array_equal(flipped[view, :, column], base[view, :, base.shape[2] - 1 - column])
    assert not np.array_equal(flipped, base)


def test_what_may_be_asked_for() -> None:
    assert parse_views(None) == ()
    assert [view.name for view in parse_views("flip")] == ["flip"]
    assert [view.name for view in parse_views("tsn:3")] == ["tsn:1", "tsn:2", "tsn:3"]
    assert len(parse_views("tsn:16")) == 16
    for text in ("flip", "tsn:1", "tsn:16"):
        assert asked(parse_views(text)) == text


@pytest.mark.parametrize("text", ["", "tsn", "tsn:", "tsn:0", "tsn:17", "tsn:-1", "tsn:1.5", "tsn:²", "flip:1", "10"])
def test_what_may_not(text: str) -> None:
    with pytest.raises(UsageError, match=r"unknown --views .*; choose flip, or tsn:V with V from 1 to 16"):
        parse_views(text)


def test_mirror_images_of_ten_crops_are_there_already() -> None:
    with pytest.raises(UsageError, match="has the mirror images already"):
        check_views(parse_views("flip"), "10")
    check_views(parse_views("tsn:2"), "10")
    check_views(parse_views("flip"), "5")


def test_every_view_describes_itself_differently() -> None:
    described = [str(view.describe()) for view in (*parse_views("tsn:16"), *parse_views("flip"))]
    assert len(set(described)) == 17
