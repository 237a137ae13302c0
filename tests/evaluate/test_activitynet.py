"""ActivityNet's and Kinetics' figures against slow loops, and each fact of the official script by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rratag.errors import LabelError
from rratag.evaluate.activitynet import activitynet, average_precisions, kinetics
from rratag.evaluate.pool import judge
from rratag.evaluate.precision import weighted_average_precision
from tests.evaluate import slow
from tests.evaluate.slow import LABELS, OTHER_LABELS, Row, pool_of


def figures(rows: list[Row], truth: slow.Truth, keep_top: int | None = None) -> dict[str, float]:
    judged = judge(pool_of(rows), truth)
    if keep_top is not None:
        judged = judged.kept(keep_top)
    return {name: float(value[0]) for name, value in activitynet(judged, np.ones((1, len(truth)), np.float32)).items()}


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Row], dict[str, list[str]]]:
    truth = draw(slow.truths())
    return draw(slow.predictions(sorted({label for own in truth.values() for label in own}))), truth


@settings(deadline=None, max_examples=150)
@given(cases())
def test_figures_equal_those_of_slow_loops(case: tuple[list[Row], dict[str, list[str]]]) -> None:
    rows, truth = case
    found = figures(rows, truth)
    assert found["mAP"] == pytest.approx(slow.mean_average_precision(rows, truth), abs=1e-12)
    for k in (1, 3):
        assert found[f"hit@{k}"] == pytest.approx(slow.hit(rows, truth, k), abs=1e-12)
        assert found[f"average hit@{k}"] == pytest.approx(slow.average_hit(rows, truth, k), abs=1e-12)
    short = figures(rows, truth, keep_top=2)
    assert short["mAP"] == pytest.approx(slow.mean_average_precision(slow.top(rows, 2), truth), abs=1e-12)
    assert short["hit@3"] == pytest.approx(slow.hit(slow.top(rows, 2), truth, 3), abs=1e-12)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(["va", "vb", "vc", "vx"]), max_size=6), st.data())
def test_no_order_of_equal_scores_gives_less(videos: list[str], data: st.DataObject) -> None:
    """Whatever the sort of the official script does, with repeats, as long as those of a right one come last."""
    rows = [(video, "ant", float(data.draw(st.integers(0, 2)))) for video in videos]
    truth = {"va": ["ant"], "vb": ["ant"]}
    orders = [order for order in slow.all_orders(rows, "ant") if repeats_come_last(order, truth)]
    wanted = min(slow.interpolated(order, set(truth)) for order in orders)
    assert figures(rows, truth)["mAP"] == pytest.approx(wanted, abs=1e-12)


def repeats_come_last(order: list[Row], truth: slow.Truth) -> bool:
    """Whether no other prediction of a score follows what repeats a right one of that score."""
    right, again, last = set[Row](), False, None
    for row in order:
        again = again and row[2] == last
        last = row[2]
        if row in right:
            again = True
        elif again:
            return False
        elif row[0] in truth and all(row[0] != one[0] for one in right):
            right.add(row)
    return True


def test_repeated_wrong_predictions_come_first_of_their_score() -> None:
    rows: list[Row] = [("vx", "ant", 0.5), ("vx", "ant", 0.5), ("va", "ant", 0.5)]
    truth = {"va": ["ant"], "vb": ["ant"]}
    assert figures(rows, truth)["mAP"] == pytest.approx(1 / 6)  # the third place, of two that are to be found
    # what was found by a higher score is wrong as well
    rows = [("va", "ant", 0.9), ("va", "ant", 0.5), ("va", "ant", 0.5), ("vb", "ant", 0.5)]
    assert figures(rows, truth)["mAP"] == pytest.approx((1 + 2 / 4) / 2)


@settings(deadline=None, max_examples=60)
@given(cases())
def test_kinetics_is_the_same_code(case: tuple[list[Row], dict[str, list[str]]]) -> None:
    rows, truth = case
    found = kinetics(judge(pool_of(rows), truth), np.ones((1, len(truth)), np.float32))
    assert found["mAP"][0] == figures(rows, truth)["mAP"]
    for k in (1, 5):
        assert found[f"error@{k}"][0] == pytest.approx(1 - slow.hit(rows, truth, k), abs=1e-12)


@settings(deadline=None, max_examples=100)
@given(cases(), st.data())
def test_a_video_of_weight_n_is_n_videos(case: tuple[list[Row], dict[str, list[str]]], data: st.DataObject) -> None:
    rows, truth = case
    times = {video: data.draw(st.integers(0, 2)) for video in truth}
    if not any(times.values()):
        return
    copies = {f"{video}{copy}": labels for video, labels in truth.items() for copy in range(times[video])}
    copied = [(f"{v}{copy}", label, score) for v, label, score in rows for copy in range(times.get(v, 1))]
    seen = {label for labels in copies.values() for label in labels}
    weights = np.array([[times[video] for video in truth]], np.float32)
    found = average_precisions(judge(pool_of(rows), truth), weights)
    wanted = average_precisions(
        judge(pool_of([row for row in copied if row[1] in seen]), copies), np.ones((1, len(copies)), np.float32)
    )
    for label, area in found.items():
        if label in seen:
            assert area[0] == pytest.approx(wanted[label][0], abs=1e-12)
        else:
            assert np.isnan(area[0])


# --- the facts of the script, one by one ---


def test_the_figure_worked_by_hand() -> None:
    truth = {"va": ["ant"], "vb": ["ant"], "vc": ["bee"]}
    rows: list[Row] = [
        ("va", "ant", 0.9),  # right: precision 1 at recall 1/2
        ("vc", "ant", 0.8),
        ("vb", "ant", 0.7),  # right: precision 2/3 at recall 1
        ("va", "bee", 0.6),
        ("vc", "bee", 0.5),  # right: precision 1/2 at recall 1
    ]
    found = figures(rows, truth)
    assert found["mAP"] == pytest.approx((0.5 * 1 + 0.5 * 2 / 3 + 1 / 2) / 2)
    assert found["hit@1"] == pytest.approx(2 / 3)  # vc says ant first


def test_repeated_annotations_are_one() -> None:
    """A video of three segments of one class counts once, so that finding it is finding all."""
    rows: list[Row] = [("va", "ant", 0.9), ("vb", "ant", 0.1)]
    assert figures(rows, {"va": ["ant", "ant", "ant"], "vb": ["ant"]}) == figures(rows, {"va": ["ant"], "vb": ["ant"]})


def test_classes_are_those_of_the_ground_truth_alone() -> None:
    rows: list[Row] = [("va", "ant", 0.9)]
    assert figures(rows, {"va": ["ant"]})["mAP"] == 1
    assert figures(rows, {"va": ["ant"], "vb": ["bee"]})["mAP"] == 0.5  # bee has no prediction: 0, and counts


def test_a_label_that_the_subset_lacks_is_one_line() -> None:
    with pytest.raises(LabelError, match=r"label 'zzz' is predicted, but no video of the ground truth has it \(1 such"):
        figures([("va", "zzz", 0.9)], {"va": ["ant"]})
    with pytest.raises(LabelError, match="such labels"):
        kinetics(judge(pool_of([("va", "zzz", 0.9)]), {"va": ["ant"]}), np.ones((1, 1), np.float32))


def test_the_second_prediction_of_a_video_is_wrong() -> None:
    truth = {"va": ["ant"], "vb": ["ant"]}
    once: list[Row] = [("va", "ant", 0.9), ("vb", "ant", 0.7)]
    assert figures(once, truth)["mAP"] == 1
    assert figures([*once, ("va", "ant", 0.8)], truth)["mAP"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_a_repeat_of_equal_score_comes_after_its_first() -> None:
    truth = {"va": ["ant"], "vb": ["ant"]}
    rows: list[Row] = [("va", "ant", 0.9), ("va", "ant", 0.9), ("vb", "ant", 0.7)]
    assert figures(rows, truth)["mAP"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_a_video_outside_the_subset_is_wrong() -> None:
    truth = {"va": ["ant"]}
    assert figures([("va", "ant", 0.5), ("vx", "ant", 0.9)], truth)["mAP"] == 0.5


def test_precision_is_interpolated_over_all_points() -> None:
    """Right at places 2 and 3: the precision 1/2 at the first of them is raised to the 2/3 of the second."""
    rows: list[Row] = [("vx", "ant", 0.9), ("va", "ant", 0.8), ("vb", "ant", 0.7)]
    assert figures(rows, {"va": ["ant"], "vb": ["ant"]})["mAP"] == pytest.approx(2 / 3)


def test_nothing_is_cut_off_unless_asked_for() -> None:
    truth = {"va": ["ant", "bee", "cat"]}
    rows: list[Row] = [("va", "ant", 0.9), ("va", "bee", 0.8), ("va", "cat", 0.7)]
    assert figures(rows, truth)["mAP"] == 1
    assert figures(rows, truth, keep_top=1)["mAP"] == pytest.approx(1 / 3)


def test_hits_count_all_labels_or_any_and_videos_without_predictions_as_none() -> None:
    truth = {"va": ["ant", "bee"], "vb": ["cat"]}
    found = figures([("va", "bee", 0.9), ("va", "cat", 0.8), ("va", "ant", 0.7)], truth)
    assert (found["hit@1"], found["average hit@1"]) == (0.5, 0.25)
    assert (found["hit@3"], found["average hit@3"]) == (0.5, 0.5)


def test_a_duplicate_takes_a_place_among_the_first() -> None:
    rows: list[Row] = [("va", "bee", 0.9), ("va", "bee", 0.8), ("va", "bee", 0.7), ("va", "ant", 0.6), ("vb", "bee", 1)]
    assert figures(rows, {"va": ["ant"], "vb": ["bee"]})["hit@3"] == 0.5


def test_equal_scores_of_a_video_stand_in_the_order_of_names() -> None:
    rows: list[Row] = [("va", "cat", 0.5), ("va", "bee", 0.5), ("vb", "ant", 0.5), ("vb", "cat", 0.5)]
    assert figures(rows, {"va": ["cat"], "vb": ["ant"], "vc": ["bee"]})["hit@1"] == pytest.approx(1 / 3)


def test_the_order_of_the_file_means_nothing() -> None:
    rng = np.random.default_rng(0)
    rows = [(video, label, float(rng.integers(3))) for video in slow.VIDEOS for label in LABELS]
    truth = {video: [LABELS[place % 3]] for place, video in enumerate(slow.VIDEOS)}
    wanted = figures(rows, truth)
    for _ in range(5):
        rows = [rows[place] for place in rng.permutation(len(rows))]
        assert figures(rows, dict(reversed(truth.items()))) == wanted


def test_no_prediction_at_all() -> None:
    assert set(figures([], {"va": ["ant"]}).values()) == {0.0}


def test_many_weightings_in_pieces_are_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    scores, right, videos = rng.integers(0, 5, 40) / 5, rng.random(40) < 0.4, np.arange(40)
    weights = rng.integers(0, 3, (7, 40)).astype(np.float32)
    monkeypatch.setattr("rratag.evaluate.precision._CELLS", 100)
    for interpolate in (False, True):
        together = weighted_average_precision(
            scores, right, videos, np.flatnonzero(right), weights, interpolate=interpolate
        )
        each = [
            weighted_average_precision(scores, right, videos, np.flatnonzero(right), row[None], interpolate=interpolate)
            for row in weights
        ]
        assert together == pytest.approx(np.concatenate(each))


def test_other_labels_sort_around_those_of_the_truth() -> None:
    """Numbers of labels are of all names: a wrong one before them must not shift the right ones."""
    rows: list[Row] = [("va", label, 0.5) for label in [*LABELS, *OTHER_LABELS]]
    judged = judge(pool_of(rows), {"va": ["ant"]})
    assert [judged.labels[number] for number in judged.label[judged.right]] == ["ant"]
    assert judged.place[judged.right].tolist() == [1]  # "aaa" stands first
