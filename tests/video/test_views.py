"""Resize, crops and flips: sizes, exact places, the weights' own preprocessing, and the way back to the picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import CenterCrop, Compose, Resize

from rratag.errors import UsageError
from rratag.video.views import CROPS, ViewRule, scaled

SIDE = 32
SIZES = [(90, 160), (160, 90), (64, 64), (36, 640), (640, 36), (7, 9), (1, 50), (50, 1), (33, 32), (1080, 1920)]


def rule(crops: str, resize: int = 36, interpolation: str = "bilinear", side: int = SIDE) -> ViewRule:
    return ViewRule(crops, side, resize, interpolation)


def gradient(height: int, width: int) -> np.ndarray:
    """Red rises from left to right, green from top to bottom, each from 0 to 255 over the pixels' centres."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.round((np.arange(width) + 0.5) / width * 255)
    image[..., 1] = np.round((np.arange(height) + 0.5) / height * 255)[:, None]
    return image


def pixels(height: int, width: int) -> np.ndarray:
    """Every pixel says where it is: red its column, green its row."""
    image = np.full((height, width, 3), 77, np.uint8)
    image[..., 0], image[..., 1] = np.arange(width), np.arange(height)[:, None]
    return image


def photo_like(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise with structure at several scales, saturated in places."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3))
    for scale in (1, 4, 16):
        rows, columns = -(-height // scale), -(-width // scale)
        coarse = rng.normal(0, 40, (rows, columns, 3))
        image += np.kron(coarse, np.ones((scale, scale, 1)))[:height, :width]
    return np.clip(image + 128, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("crops", CROPS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_shapes_and_memory(crops: str, height: int, width: int) -> None:
    image = photo_like(height, width)
    kept = image.copy()
    views = rule(crops).prepare(image)
    count = {"full": 1, "squash": 1}.get(crops) or int(crops)
    assert rule(crops).num_views == len(views) == len(rule(crops).rectangles(width, height)) == count
    assert views.dtype == np.uint8
    assert views.shape[3] == 3
    if crops != "full":
        assert views.shape[1:3] == (SIDE, SIDE)
    views[:] = 0
    assert np.array_equal(image, kept)  # the views' memory is their own


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (90, 160, (32, 64)),  # 16:9 at a shorter side of 36 is 36 x 64: the nearest multiples of 32
        (160, 90, (64, 32)),
        (100, 100, (32, 32)),
        (100, 132, (32, 32)),  # 47.5 is nearer to 32 than to 64
        (100, 135, (32, 64)),
        (1080, 2376, (32, 64)),  # 2.2:1
        (36, 640, (32, 96)),  # beyond 3:1 it is squashed
        (640, 36, (96, 32)),
        (1, 4000, (32, 96)),
    ],
)
def test_full_keeps_the_aspect_to_the_nearest_stride(height: int, width: int, expected: tuple[int, int]) -> None:
    assert rule("full").resized(height, width) == expected
    assert rule("full").prepare(gradient(height, width)).shape == (1, *expected, 3)


def test_full_at_the_default_size_of_the_bundled_weights() -> None:
    assert rule("full", 256, "bicubic", 224).resized(1080, 1920) == (256, 448)
    assert rule("full", 256, "bicubic", 224).resized(1920, 1080) == (448, 256)
    assert rule("full", 80, "bicubic", 70).resized(1080, 1920) == (64, 128)  # 80 lies half way: to even


# (36 x 64 and 64 x 36 are kept by a resize of 36: the pixels of the views are the pixels of the picture)
WIDE = {
    "1": [(2, 16)],
    "3": [(2, 0), (2, 16), (2, 32)],
    "5": [(0, 0), (0, 32), (4, 0), (4, 32), (2, 16)],
}


@pytest.mark.parametrize("tall", [False, True])
@pytest.mark.parametrize("crops", ["1", "3", "5", "10"])
def test_crops_are_exactly_where_they_should_be(crops: str, tall: bool) -> None:
    places = WIDE["5" if crops == "10" else crops]
    if tall:
        places = [(left, top) for top, left in places]
        if crops in ("5", "10"):  # corners in order: left to right, then top to bottom
            places = [places[0], places[2], places[1], places[3], places[4]]
    image = pixels(*((64, 36) if tall else (36, 64)))
    views = rule(crops).prepare(image)
    for view, (top, left) in zip(views, places, strict=False):
        assert np.array_equal(view, image[top : top + SIDE, left : left + SIDE])
    if crops == "10":
        for view, (top, left) in zip(views[5:], places, strict=True):
            assert np.array_equal(view, image[top : top + SIDE, left : left + SIDE][:, ::-1])


def test_an_odd_rest_is_divided_as_torchvision_does() -> None:
    """CenterCrop rounds half to even: 35 - 32 = 3 leaves 2 above, 33 - 32 = 1 leaves 0."""
    for side, top in ((33, 0), (35, 2), (37, 2), (39, 4)):
        image = pixels(side, side)
        assert rule("1", side).prepare(image)[0, 0, 0, 1] == top
        reference = np.asarray(CenterCrop(SIDE)(Image.fromarray(image)))
        assert np.array_equal(rule("1", side).prepare(image)[0], reference)


@pytest.mark.parametrize("crops", CROPS)
@pytest.mark.parametrize(("height", "width"), [(90, 160), (160, 90), (36, 640), (640, 36), (1080, 1920)])
def test_rectangles_lead_back_to_the_pixels(crops: str, height: int, width: int) -> None:
    """What the view shows at a fraction of its width is what the picture shows there by the rectangle."""
    one = rule(crops, side=64, resize=72)
    views = one.prepare(gradient(height, width)).astype(float)
    for view, (x0, y0, x1, y1) in zip(views, one.rectangles(width, height), strict=True):
        rows, columns = view.shape[:2]
        x = x0 + (np.arange(columns) + 0.5) / columns * (x1 - x0)
        y = y0 + (np.arange(rows) + 0.5) / rows * (y1 - y0)
        inner = slice(2, -2)  # at the picture's edge antialiasing has one side only
        tolerance = 3.0
        assert np.abs(view[rows // 2, inner, 0] - 255 * x[inner]).max() < tolerance
        assert np.abs(view[inner, columns // 2, 1] - 255 * y[inner]).max() < tolerance


def test_rectangles_of_mirrored_views_run_from_right_to_left() -> None:
    found = rule("10").rectangles(64, 36)
    for plain, mirrored in zip(found[:5], found[5:], strict=True):
        assert np.array_equal(mirrored, plain[[2, 1, 0, 3]])
    np.testing.assert_allclose(found[0], [0, 0, 32 / 64, 32 / 36])
    np.testing.assert_allclose(found[3], [32 / 64, 4 / 36, 1, 1])
    assert rule("full").rectangles(64, 36).tolist() == rule("squash").rectangles(64, 36).tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(360, 640), (641, 359), (120, 121), (90, 700), (40, 50)])
def test_centre_crop_agrees_with_the_weights_own_preprocessing(interpolation: str, height: int, width: int) -> None:
    """PIL + torchvision, as the weights were evaluated; 40 x 50 is enlarged."""
    image = photo_like(height, width)
    reference = Compose([Resize(72, InterpolationMode(interpolation)), CenterCrop(64)])(Image.fromarray(image))
    found = rule("1", 72, interpolation, 64).prepare(image)[0]
    difference = np.abs(found.astype(int) - np.asarray(reference))
    assert difference.mean() < 0.5
    assert difference.max() <= 2
    # the measure notices a shift by one pixel
    assert np.abs(found[:, 1:].astype(int) - np.asarray(reference)[:, :-1]).mean() > 3


def test_the_longer_side_is_cut_not_rounded() -> None:
    for height, width in ((37, 61), (61, 37), (100, 177), (359, 641)):
        reference = Resize(72)(Image.fromarray(photo_like(height, width)))
        assert rule("1", 72).resized(height, width) == (reference.height, reference.width)


def test_a_read_only_picture_is_taken() -> None:
    image = pixels(36, 64)
    image.flags.writeable = False
    for crops in CROPS:
        assert rule(crops).prepare(image).flags.writeable


def test_scaled_resizes_all_alike_and_leaves_what_fits() -> None:
    images = np.stack([gradient(40, 60), photo_like(40, 60)])
    found = scaled(images, 20, 30, "bilinear")
    assert found.shape == (2, 20, 30, 3)
    assert np.abs(found[0].astype(int) - gradient(20, 30)).max() <= 3
    assert np.array_equal(found[1], scaled(images[1:], 20, 30, "bilinear")[0])
    assert scaled(images, 40, 60, "bilinear") is images


def test_an_unknown_view_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="1, 3, 5, 10, full, squash"):
        rule("2")


def test_everything_that_decides_the_pixels_is_described() -> None:
    said = [rule("1").describe(), rule("3").describe(), rule("1", 40).describe(), rule("1", side=30).describe()]
    said += [rule("1", interpolation="bicubic").describe(), rule("full").describe()]
    assert len({str(one) for one in said}) == len(said)
    assert (
        rule("squash", 36).describe() == rule("squash", 99).describe()
    )  # nothing is resized to the shorter side there
