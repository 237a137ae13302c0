"""Several models together: weights, names, what becomes of a video, files, one decoding for each kind of features."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rratag.errors import ModelError, RratagError, UsageError
from rratag.features import extract as extract_module
from rratag.features.extract import Network, RunOptions, load_network
from rratag.features.failures import keep_failure
from rratag.features.request import Request
from rratag.features.store import FeatureStore
from rratag.head.rra import HeadConfig
from rratag.head.variants import build_head
from rratag.model import Model, save_model
from rratag.records import Receipt
from rratag.tag.fuse import Fused, Fusion, Stream, fuse, fuse_results, load_streams, parse_model, worst
from rratag.tag.predict import Prediction
from rratag.tag.run import Override, Tagging
from rratag.tag.writers import About, TagRow, read_tags, write_tags
from rratag.video.discover import discover
from rratag.video.plan import Sampling
from tests.conftest import TINY
from tests.tag.test_writers import by_hand, make_prediction

NAMES = ["cat", "dog", "fox"]
FULL = Request(TINY, "random", 64, "full", Sampling(frames=3))
CENTRE = Request(TINY, "random", 64, "1", Sampling(frames=2))


# --- the sum ---


def test_scores_are_the_weighted_mean_of_each_kind() -> None:
    parts = [make_prediction("a", NAMES, 1, 2), make_prediction("a", NAMES, 2, 3), make_prediction("a", NAMES, 3, 1)]
    found = fuse(parts, [1, 1.5, 0.25])
    for name in ("scores", "concatenation_scores"):
        own = [getattr(part, name).astype(np.float64) for part in parts]
        by_hand_sum = [(own[0][c] + 1.5 * own[1][c] + 0.25 * own[2][c]) / 2.75 for c in range(3)]
        np.testing.assert_allclose(getattr(found, name), by_hand_sum, rtol=1e-12)
        assert getattr(found, name).sum() == pytest.approx(1)
    np.testing.assert_allclose(fuse(parts, [4, 6, 1]).scores, found.scores, rtol=1e-12)  # proportions alone count
    assert np.abs(fuse(parts, [1.5, 1, 0.25]).scores - found.scores).max() > 1e-3
    for exponent in (1023, -1020):  # weights whose sum is no number, and the smallest that there are
        huge = fuse(parts, [math.ldexp(weight, exponent) for weight in (1, 1.5, 0.25)])
        np.testing.assert_array_equal(huge.scores, found.scores)
        np.testing.assert_array_equal(huge.concatenation_scores, found.concatenation_scores)
    np.testing.assert_array_equal(found.glimpse_scores, np.vstack([part.glimpse_scores for part in parts]))
    assert found.ranking() == sorted(range(3), key=lambda label: -found.scores[label])
    assert found.ranking("concat") == sorted(range(3), key=lambda label: -found.concatenation_scores[label])


def test_parts_that_do_not_fit_are_refused() -> None:
    parts = [make_prediction("a", NAMES, 1), make_prediction("a", ["cat", "fox", "dog"], 2)]
    with pytest.raises(ValueError, match="equal class names"):
        fuse(parts, [1, 1])
    with pytest.raises(ValueError, match="with 2 weights"):
        fuse(parts[:1], [1, 1])
    streams = [Stream(name, 1, None) for name in "ab"]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="results of one video expected"):
        fuse_results([make_prediction("a", NAMES, 1), make_prediction("b", NAMES, 1)], streams)


def test_evidence_is_of_the_glimpse_that_speaks_most_of_all_models() -> None:
    first, second = by_hand("a"), make_prediction("a", NAMES, 4)
    glimpses = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    second = replace(second, glimpse_scores=glimpses, peak_frames=np.array([[1, 2]]))
    found = fuse([first, second], [1, 1])
    # cat: 0.7 by the first glimpse of the first; dog: 0.5, fox: 0.8 by the glimpses of the second
    assert [found.evidence(label).glimpse for label in NAMES] == [0, 2, 3]
    assert [found.evidence(label).time_s for label in range(3)] == [1.0, 1.25, 2.0006]
    assert found.evidence("dog").box == tuple(second.peak_boxes[0, 0])
    assert found.frames_used == 2


# --- names and weights ---


@pytest.mark.parametrize(
    ("text", "path", "weight"),
    [
        ("a", "a", 1),
        ("b:1.5", "b", 1.5),
        ("b:2e-1", "b", 0.2),
        ("C:/models/a", "C:/models/a", 1),
        ("a:b:3", "a:b", 3),
        ("a:1:2", "a:1", 2),
        ("there:word", "there:word", 1),
        ("x/y:z", "x/y:z", 1),
    ],
)
def test_weight_stands_behind_the_last_colon(
    text: str, path: str, weight: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there:word").mkdir()
    assert parse_model(text) == (Path(path), weight)


@pytest.mark.parametrize(
    "text", ["a:0", "a:-1", "a:nan", "a:inf", "a:-0.0", ":2", "", "there:1,5", "there:", "there:x"]
)
def test_what_is_no_weight_is_one_line(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="--model") as caught:
        parse_model(text)
    assert "\n" not in str(caught.value)


def saved(folder: Path, names: Sequence[str], request: Request = FULL, channels: int = 8, seed: int = 0) -> Path:
    config = HeadConfig(channels, len(names), num_glimpses=2)
    torch.manual_seed(seed)
    meaning = {"crops": request.crops, "channels": channels}
    save_model(folder, Model(build_head(config).eval(), config, list(names), meaning, request.recipe()))
    return folder


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (["cat", "dog", "hen"], r"3 and 3; 'fox' is one of .*/a alone"),
        (["ant", "cat", "dog", "fox"], r"3 and 4; 'ant' is one of .*/b alone"),
        (["cat", "fox"], r"3 and 2; 'dog' is one of .*/a alone"),
        (["dog", "cat", "fox"], "not in the order of those of"),
    ],
)
def test_models_of_different_tags_are_one_line(tmp_path: Path, other: list[str], words: str) -> None:
    models = [(saved(tmp_path / "a", NAMES), 1.0), (saved(tmp_path / "b", other), 1.0)]
    with pytest.raises(ModelError, match=words) as caught:
        load_streams(models)
    assert "\n" not in str(caught.value)


def test_models_of_equal_tags_are_loaded_in_order(tmp_path: Path) -> None:
    models = [(saved(tmp_path / "b", NAMES), 2.0), (saved(tmp_path / "a", NAMES, channels=4), 0.5)]
    streams = load_streams(models)
    assert [(Path(one.name).name, one.weight, one.model.head_config.channels) for one in streams] == [
        ("b", 2.0, 8),
        ("a", 0.5, 4),
    ]


# --- what becomes of a video ---

OK = Receipt("v", "ok", frames_wanted=25)
FEW = Receipt("v", "partial", "frames", "20 of 25 frames")
BROKEN = Receipt("v", "unreadable", "corrupt", "no frame could be decoded")
GONE = Receipt("v", "vanished")


@pytest.mark.parametrize(
    ("receipts", "status", "reason", "message"),
    [
        ([OK, OK], "ok", "", ""),
        ([BROKEN, BROKEN], "unreadable", "corrupt", "no frame could be decoded"),
        ([OK, BROKEN], "unreadable", "corrupt", "model flow: no frame could be decoded"),
        ([BROKEN, OK], "unreadable", "corrupt", "model rgb: no frame could be decoded"),
        ([OK, FEW], "partial", "frames", "model flow: 20 of 25 frames"),
        ([FEW, BROKEN], "unreadable", "corrupt", "model rgb: 20 of 25 frames; model flow: no frame could be decoded"),
        ([FEW, GONE], "vanished", "", "model rgb: 20 of 25 frames; model flow: vanished"),
        ([GONE, BROKEN], "vanished", "", "model rgb: vanished; model flow: no frame could be decoded"),
    ],
)
def test_worst_status_counts_and_its_stream_is_named(
    receipts: list[Receipt], status: str, reason: str, message: str
) -> None:
    found = worst(receipts, ["rgb", "flow"])
    assert (found.video, found.status, found.reason, found.message) == ("v", status, reason, message)


def test_message_stays_one_line_whatever_a_model_is_called() -> None:
    assert worst([OK, BROKEN], ["a", "b\n\x1bc"]).message == "model b??c: no frame could be decoded"


def test_a_video_that_fails_in_one_stream_is_not_tagged() -> None:
    streams = [Stream("rgb", 1, None), Stream("flow", 1.5, None)]  # type: ignore[arg-type]
    found = fuse_results([make_prediction("v", NAMES), BROKEN], streams)
    assert isinstance(found, Receipt)
    assert (found.status, found.message) == (
        "unreadable",
        "model rgb: 2 of 3 frames; model flow: no frame could be decoded",
    )
    both = fuse_results([make_prediction("v", NAMES, 1), make_prediction("v", NAMES, 2)], streams)
    assert isinstance(both, Fused)
    assert both.receipt.status == "partial"
    alone = make_prediction("v", NAMES)
    assert fuse_results([alone], streams[:1]) is alone


# --- files ---


def about(num_glimpses: int, score: str = "ensemble") -> About:
    models = tuple({"name": name, "weight": weight} for name, weight in (("rgb", 1.0), ("flow", 1.5)))
    return About({"name": "rgb"}, {}, {}, num_glimpses, 3, score, models=models)


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl"])
def test_every_format_holds_glimpses_side_by_side(tmp_path: Path, suffix: str) -> None:
    parts = [make_prediction("v", NAMES, 1, 2), make_prediction("v", NAMES, 2, 3)]
    found = fuse(parts, [1, 1.5])
    path = tmp_path / f"tags{suffix}"
    write_tags([found, Receipt("a", "unreadable", "empty")], path, about(5))
    failed, *rows = read_tags(path)
    assert failed == TagRow("a", "unreadable", "empty")
    assert [row.label for row in rows] == [NAMES[label] for label in found.ranking()]
    for row in rows:
        label = NAMES.index(row.label)
        assert row.score == pytest.approx(found.scores[label], abs=1e-6)
        assert row.glimpses == pytest.approx(found.glimpse_scores[:, label], abs=1e-6)
        assert row.time_s == pytest.approx(found.evidence(label).time_s, abs=1e-3)


def test_json_holds_every_models_own_part(tmp_path: Path) -> None:
    parts = [make_prediction("v", NAMES, 1, 2), by_hand("v")]
    for score in ("ensemble", "concat"):
        write_tags([fuse(parts, [1, 1.5])], tmp_path / "tags.json", about(4, score))
        content = json.loads((tmp_path / "tags.json").read_text())
        assert [(one["name"], one["weight"]) for one in content["models"]] == [("rgb", 1.0), ("flow", 1.5)]
        (video,) = content["videos"]
        assert [glimpse["model"] for glimpse in video["glimpses"]] == [0, 0, 1, 1]
        assert [len(glimpse["attention"]) for glimpse in video["glimpses"]] == [3, 3, 2, 2]
        assert [one["frames_used"] for one in video["models"]] == [3, 2]
        assert video["time_s"] == video["models"][0]["time_s"] == [0.5, 1.25, 2.001]
        assert video["models"][1]["time_s"] == [1.0, 3.0]
        own = {tag["label"]: tag["score"] for tag in video["models"][1]["tags"]}
        wanted = {"ensemble": [0.4, 0.25, 0.35], "concat": [0.2, 0.5, 0.3]}[score]
        assert own == dict(zip(NAMES, wanted, strict=True))
        assert next(iter(own)) == {"ensemble": "cat", "concat": "dog"}[score]
        assert video["frames_used"] == 2


def test_one_models_file_says_nothing_of_fusions(tmp_path: Path) -> None:
    write_tags([by_hand("v")], tmp_path / "tags.json", About({}, {}, {}, 2, 3))
    content = json.loads((tmp_path / "tags.json").read_text())
    assert "models" not in content
    assert "crop_fusion" not in content
    assert content["videos"][0].keys().isdisjoint({"models"})
    assert all("model" not in glimpse for glimpse in content["videos"][0]["glimpses"])


# --- runs ---


@pytest.fixture(scope="module")
def network() -> Network:
    return load_network(FULL)


@pytest.fixture(autouse=True)
def _loaded(monkeypatch: pytest.MonkeyPatch, network: Network) -> None:
    # random weights: drawn once, so that both requests lead to the same backbone
    monkeypatch.setattr(extract_module, "load_network", lambda request, download=False: network)


def stream(network: Network, request: Request, seed: int, weight: float, name: str) -> Stream:
    config = HeadConfig(network.backbone.channels, 2, num_glimpses=2)
    torch.manual_seed(seed)
    head = build_head(config)
    for parameter in head.parameters():
        parameter.data.normal_(0, 0.3)
    meaning = request.spec(network.backbone, "fp32").meaning
    return Stream(name, weight, Model(head.eval(), config, ["blue", "red"], meaning, request.recipe()))


def fusion(streams: list[Stream], folder: Path, cache: Path, crops: str | None = None) -> Fusion:
    requests = [Request.from_recipe(one.model.spec_request) for one in streams]
    found = discover([str(folder)])
    return Fusion(streams, requests, found, FeatureStore(cache), RunOptions(1), Override(crops=crops))


def results(run: Fusion) -> list[Prediction | Fused | Receipt]:
    for tagging in run.taggings:
        list(tagging.extract())
    return list(run.predictions())


def test_models_of_different_features_are_fused_video_by_video(
    network: Network, clip_folder: Path, tmp_path: Path
) -> None:
    streams = [stream(network, FULL, 1, 1, "rgb"), stream(network, CENTRE, 2, 1.5, "near")]
    (clip_folder / "blue/1.mp4").write_bytes(b"")
    run = fusion(streams, clip_folder, tmp_path / "both")
    found = results(run)
    assert len(run.taggings) == 2
    assert [one.video for one in found] == sorted(one.video for one in found)
    alone = []
    for one, request in zip(streams, (FULL, CENTRE), strict=True):
        tagging = Tagging(one.model, discover([str(clip_folder)]), request, FeatureStore(tmp_path / "o"), RunOptions(1))
        list(tagging.extract())
        alone.append({result.video: result for result in tagging.predictions()})
    for result in found:
        left, right = (each[result.video] for each in alone)
        if isinstance(result, Receipt):
            assert (result.video, result.reason) == ("blue/1.mp4", "empty")
            assert result.message == left.message  # type: ignore[union-attr]
            continue
        assert isinstance(left, Prediction)
        assert isinstance(right, Prediction)
        np.testing.assert_allclose(result.scores, (left.scores + 1.5 * right.scores) / 2.5, atol=1e-6)
        assert result.frames_used == 2


def test_a_video_that_one_stream_cannot_use_names_it(network: Network, clip_folder: Path, tmp_path: Path) -> None:
    streams = [stream(network, FULL, 1, 1, "rgb"), stream(network, CENTRE, 2, 1.5, "near")]
    store = FeatureStore(tmp_path / "c")
    second = fusion(streams, clip_folder / "red", tmp_path / "c").tagging(1)
    list(second.extract())
    # its content is noted as one that this kind of features cannot be made of
    (entry,) = (entry for entry in second.entries() if entry.id == "2.mp4")
    noted = second.extraction.stores[0]
    keep_failure(noted, entry.key, replace(BROKEN, video="2.mp4"))
    noted.path(entry.key).unlink()
    found = {one.video: one for one in results(fusion(streams, clip_folder / "red", tmp_path / "c"))}
    assert len(found) == 5
    failed = found.pop("2.mp4")
    assert isinstance(failed, Receipt)
    assert (failed.status, failed.message) == ("unreadable", "model near: no frame could be decoded")
    assert all(isinstance(one, Fused) for one in found.values())
    assert len(store.specs()) == 2


def test_models_of_equal_features_share_one_extraction(network: Network, clip_folder: Path, tmp_path: Path) -> None:
    streams = [stream(network, FULL, seed, weight, f"{seed}") for seed, weight in ((1, 1), (2, 3))]
    for crops in (None, "3"):
        run = fusion(streams, clip_folder / "red", tmp_path / "c", crops)
        assert len(run.taggings) == 1
        found = results(run)
        each = [list(run.taggings[0].predictions(number)) for number in range(2)]
        for one, left, right in zip(found, *each, strict=True):
            assert isinstance(one, Fused)
            assert isinstance(left, Prediction)
            assert isinstance(right, Prediction)
            np.testing.assert_allclose(one.scores, (left.scores + 3 * right.scores) / 4, atol=1e-9)
            assert one.parts[0].logits.shape[0] == (3 if crops else 1)
    assert len(FeatureStore(tmp_path / "c").specs()) == 1


def test_damaged_features_are_made_again_for_all_models(network: Network, clip_folder: Path, tmp_path: Path) -> None:
    streams = [stream(network, FULL, seed, weight, f"{seed}") for seed, weight in ((1, 1), (2, 3))]
    wanted = results(fusion(streams, clip_folder, tmp_path / "c"))
    run = fusion(streams, clip_folder, tmp_path / "c")
    list(run.taggings[0].extract())
    entries = run.taggings[0].entries()
    run.taggings[0].extraction.stores[0].path(entries[3].key).unlink()
    found = list(run.predictions())
    for left, right in zip(found, wanted, strict=True):
        assert isinstance(left, Fused)
        assert isinstance(right, Fused)
        np.testing.assert_allclose(left.scores, right.scores, atol=1e-6)


def test_a_model_whose_features_are_not_these_is_refused(network: Network, clip_folder: Path, tmp_path: Path) -> None:
    streams = [stream(network, FULL, 1, 1, "a"), stream(network, CENTRE, 2, 1, "b")]
    streams[1].model.meaning["weights"] = "f" * 64
    with pytest.raises(RratagError, match="weights: model 'ffff"):
        fusion(streams, clip_folder, tmp_path / "c")


def test_a_video_reached_twice_has_its_rows_side_by_side(network: Network, clip_folder: Path, tmp_path: Path) -> None:
    streams = [stream(network, FULL, 1, 1, "a"), stream(network, CENTRE, 2, 1, "b")]
    found = discover([str(clip_folder / "red"), str(clip_folder / "red/3.mp4")])
    run = Fusion(streams, [FULL, CENTRE], found, FeatureStore(tmp_path / "c"), RunOptions(1))
    assert [(one.video, isinstance(one, Fused)) for one in results(run)] == [
        *((f"{number}.mp4", True) for number in range(3)),
        ("3.mp4", False),
        ("3.mp4", True),
        ("4.mp4", True),
    ]
