"""The numbers of a report, against the prediction and slow references."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest

from rratag.explain.report import (
    FRAMES_ENLARGED,
    FRAMES_SHOWN,
    Truth,
    card,
    failed_card,
    frames_to_show,
    judged,
    known_labels,
    layer,
)
from rratag.records import Instance, Receipt
from rratag.tag.predict import Prediction

NAMES = ["ant", "bee", "cat", "dog", "eel", "fly", "gnu"]
K, T, ROWS, COLUMNS = 3, 10, 2, 4


def prediction(video: str = "bee/1.mp4", seed: int = 0, views: int = 1) -> Prediction:
    """Random numbers of the right kind, with cells that add up to the attention."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(views, K, len(NAMES))).astype(np.float32)
    shares = np.exp(logits.astype(float))
    shares = (shares / shares.sum(-1, keepdims=True)).mean(0)
    cells = rng.random((views, K, T, ROWS, COLUMNS)).astype(np.float32) ** 4
    cells /= cells.sum((2, 3, 4), keepdims=True)
    by_frame = cells.sum((3, 4))
    return Prediction(
        receipt=Receipt(video, "ok", width=160, height=90),
        class_names=NAMES,
        glimpse_scores=shares,
        scores=shares.mean(0),
        concatenation_scores=shares.mean(0),
        logits=logits,
        attention=by_frame.mean(0),
        time_s=np.arange(T) * 0.4 + 0.125,
        peak_frames=by_frame.argmax(-1),
        peak_boxes=np.sort(rng.random((views, K, 2, 2)), axis=2).reshape(views, K, 4),
        cells=cells,
    )


def test_a_card_has_the_numbers_of_the_prediction() -> None:
    found = prediction(views=2)
    rectangles = np.array([[0.1, 0, 0.6, 1], [0.9, 0, 0.4, 1]])
    made = card(found, [1, 1, 1], rectangles, [Instance("bee/1.mp4", "", "bee")])
    first = found.ranking()[0]
    assert made["rows"][0][0] == first
    scores = [row[1] for row in made["rows"]]
    assert scores == sorted(scores, reverse=True)
    for number, score, *glimpses in made["rows"]:
        assert score == pytest.approx(found.scores[number], abs=5e-5)
        assert glimpses == pytest.approx(found.glimpse_scores[:, number], abs=5e-5)
    shown = [row[0] for row in made["rows"]]
    assert {*found.ranking()[:5], *found.glimpse_scores.argmax(1).tolist(), NAMES.index("bee")} == set(shown)
    second = sorted(found.scores)[-2]
    assert made["margin"] == pytest.approx(found.scores[first] - second, abs=1e-4)
    assert made["firsts"] == found.glimpse_scores.argmax(1).tolist()
    assert made["agreeing"] == sum(one == first for one in made["firsts"])
    assert np.allclose(made["attention"], found.attention, atol=5e-5)
    assert made["times"] == [round(0.4 * t + 0.125, 3) for t in range(T)]
    best = int(found.glimpse_scores[:, first].argmax())
    assert made["speaking"] == best
    for k, (frame, *box) in enumerate(made["peaks"]):
        wanted = found.evidence_of(k, first)
        assert (frame, box) == (wanted.frame, pytest.approx(wanted.box, abs=1e-4))
    assert made["rectangle"] == rectangles[found.evidence(first).view].tolist()
    assert [one["name"] for one in made["truth"]] == ["bee"]
    assert made["labels"] == [["bee", None, None, "", "", ""]]


def test_the_heat_of_a_card_is_that_of_its_enlarged_frames() -> None:
    found = prediction(seed=3, views=2)
    made = card(found, [1, 1, 1], np.array([[0, 0, 1, 1], [0, 0, 1, 1]]), [])
    heat = made["heat"]
    levels = np.frombuffer(base64.b64decode(heat["levels"]), np.uint8)
    levels = levels.reshape(K, len(made["enlarged"]), heat["rows"], heat["columns"])
    assert found.cells is not None
    for k in range(K):
        wanted = found.cells[made["view"], k]
        most = np.quantile(wanted[made["enlarged"]], 0.995)
        for place, frame in enumerate(made["enlarged"]):
            assert np.abs(levels[k, place] - np.minimum(255, 255 * wanted[frame] / most)).max() <= 0.51


def test_layers_are_scaled_for_each_glimpse_over_all_its_frames() -> None:
    heat = np.zeros((2, 2, 1, 2))
    heat[0] = [[[0, 4]], [[2, 1]]]
    heat[1] = [[[0, 0]], [[0, 8]]]
    found = layer(heat)
    levels = np.frombuffer(base64.b64decode(found["levels"]), np.uint8).reshape(2, 2, 1, 2)
    assert (found["rows"], found["columns"]) == (1, 2)
    # the quantile that counts as most lies close below the greatest
    assert levels[0].tolist() == [[[0, 255]], [[pytest.approx(128, abs=1), pytest.approx(64, abs=1)]]]
    assert levels[1].tolist() == [[[0, 0]], [[0, 255]]]


def test_peaks_and_the_most_attended_frames_are_enlarged_and_gaps_are_filled() -> None:
    attention = np.full((2, 24), 0.01)
    attention[0, 3], attention[1, 20], attention[1, 4], attention[0, 5] = 0.7, 0.7, 0.1, 0.08
    shown, enlarged = frames_to_show(attention, [3, 20])
    assert enlarged == [3, 4, 5, 20]
    assert len(shown) == FRAMES_SHOWN
    assert shown == sorted(set(shown))
    assert set(enlarged) <= set(shown)
    # four more frames leave none of the others farther than this from one that is shown
    assert max(min(abs(place - one) for one in shown) for place in range(24)) <= 3


@pytest.mark.parametrize("count", [1, 3, 8, 9])
def test_short_videos_show_all_they_have(count: int) -> None:
    attention = np.random.default_rng(count).random((3, count))
    shown, enlarged = frames_to_show(attention, [0, 0, count - 1])
    assert shown == list(range(count)) or (count == 9 and len(shown) == 8)
    assert len(enlarged) == min(count, FRAMES_ENLARGED)


def test_folders_are_labels_only_where_a_tag_is_called_so() -> None:
    found = known_labels(["bee/1.mp4", "2024/a.mp4", "a.mp4", "cat/x/2.mp4"], NAMES, None)
    assert {video: [one.label for one in known] for video, known in found.labels.items()} == {
        "bee/1.mp4": ["bee"],
        "cat/x/2.mp4": ["cat"],
    }


def test_a_label_file_names_other_videos_and_tags_too(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("video,label,group\na.mp4,bee,g\nb.mp4,yak,\ngone.mp4,ant,\n")
    truth = known_labels(["a.mp4", "b.mp4"], NAMES, file)
    assert sorted(truth.labels) == ["a.mp4", "b.mp4"]
    assert list(truth.missing) == ["gone.mp4"]
    found, unknown = judged([prediction("a.mp4", 1), prediction("b.mp4", 2)], truth)
    assert found is not None
    assert (found.num_videos, unknown) == (1, 1)
    made = card(prediction("b.mp4", 2), [1, 1, 1], np.array([[0, 0, 1, 1]]), truth.labels["b.mp4"])
    assert [one["name"] for one in made["truth"]] == ["yak"]
    assert failed_card(Receipt("a.mp4", "vanished"), truth.labels["a.mp4"])["labels"] == [
        ["bee", None, None, "", "g", ""]
    ]


def test_scores_are_those_of_the_first_tags() -> None:
    videos = [prediction(f"{number}.mp4", number) for number in range(12)]
    firsts = [NAMES[found.ranking()[0]] for found in videos]
    labels = {found.video: [Instance(found.video, "", first)] for found, first in zip(videos, firsts, strict=True)}
    wrong = videos[4].video
    labels[wrong] = [Instance(wrong, "", NAMES[videos[4].ranking()[1]])]
    found, unknown = judged(videos, Truth(labels))
    assert found is not None
    assert (found.ensemble.top1, found.num_videos, unknown) == (pytest.approx(11 / 12), 12, 0)
    assert [(one.label, one.predicted) for one in found.confused_pairs] == [(labels[wrong][0].label, firsts[4])]
    assert judged(videos, Truth({})) == (None, 0)
    without, _ = judged(videos, Truth(labels, trained=frozenset({wrong, videos[0].video})))
    assert without is not None
    assert (without.ensemble.top1, without.num_videos) == (1, 10)


def test_names_are_kept_as_they_are_and_shown_without_what_cannot_be_seen() -> None:
    made = failed_card(Receipt("a\udcff\u202e.mp4", "unreadable", "empty"), [])
    assert made["id"] == "a\udcff\u202e.mp4"
    assert made["name"] == "a\\xff\\u202e.mp4"
