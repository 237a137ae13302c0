"""What decides a feature: digests, differences, and what can be known of them without loading the network."""

from __future__ import annotations

import json
import math
import os
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rratag.errors import UsageError
from rratag.features import request as request_module
from rratag.features.backbones import Preprocessing
from rratag.features.request import Request
from rratag.features.spec import KINDS, Spec, canonical, differences, digest
from rratag.video.plan import Sampling

numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | numbers | st.text(max_size=8)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(min_size=1, max_size=6), values, min_size=1, max_size=5)


def reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: reordered(value[name]) for name in reversed(list(value))}
    return [reordered(one) for one in value] if isinstance(value, list) else value


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1, 1.0 and True differ."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@settings(deadline=None, max_examples=60)
@given(objects, objects)
def test_digest_does_not_depend_on_the_order_of_keys(meaning: dict[str, Any], compute: dict[str, Any]) -> None:
    spec = Spec(meaning, compute)
    assert spec.digest == Spec(reordered(meaning), reordered(compute)).digest
    if not meaning.keys() & KINDS.keys():  # of these, values of another type are refused
        assert Spec.from_json(json.loads(json.dumps(spec.to_json()))).digest == spec.digest


@settings(deadline=None, max_examples=100)
@given(objects, values, st.data())
def test_digest_changes_with_any_field(meaning: dict[str, Any], value: Any, data: st.DataObject) -> None:
    spec = Spec(meaning, {"precision": "fp32"})
    name = data.draw(st.sampled_from(sorted(meaning)))
    changed = Spec({**meaning, name: value}, spec.compute)
    assert (changed.digest == spec.digest) == same(meaning[name], value)
    assert (changed.meaning_digest == spec.meaning_digest) == same(meaning[name], value)
    missing = {key: one for key, one in meaning.items() if key != name}
    assert Spec(missing, spec.compute).digest != spec.digest


def test_compute_decides_the_folder_but_not_the_meaning() -> None:
    one, other = Spec({"a": 1}, {"precision": "fp32"}), Spec({"a": 1}, {"precision": "bf16"})
    assert one.short != other.short
    assert one.meaning_digest == other.meaning_digest
    # a field that moves from one side to the other is another spec
    assert Spec({"a": 1}, {}).digest != Spec({}, {"a": 1}).digest


def test_digest_is_of_fixed_text() -> None:
    """The names of folders on people's disks: this value must never change."""
    assert canonical({"b": [1, 0.5, None], "a": "ä"}) == '{"a":"\\u00e4","b":[1,0.5,null]}'
    assert digest({"b": [1, 0.5, None], "a": "ä"})[:16] == "895647da2fba0db2"
    assert Spec({"a": 1}, {}).digest == digest({"meaning": {"a": 1}, "compute": {}})
    assert len(Spec({}, {}).short) == 16


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest({"a": value})


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"format": "other", "version": 1, "meaning": {}, "compute": {}},
        {"format": "rratag-spec", "version": 2, "meaning": {}, "compute": {}},
        {"format": "rratag-spec", "version": 1, "meaning": [], "compute": {}},
        {"format": "rratag-spec", "version": 1, "meaning": {}},
    ],
)
def test_what_is_no_spec_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"spec|meaning"):
        Spec.from_json(data)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, json.loads("[" * 40 + "]" * 40)], ids=["not a number", "infinite", "deep"]
)
@pytest.mark.parametrize("part", ["meaning", "compute"])
def test_what_has_no_digest_is_no_spec(part: str, value: Any) -> None:
    data = {"format": "rratag-spec", "version": 1, "meaning": {}, "compute": {}, part: {"a": value}}
    with pytest.raises(ValueError, match=r"JSON|levels deep"):
        Spec.from_json(data)


def test_differences_name_every_field_once() -> None:
    found = differences(
        {"same": 1, "crops": "full", "old": None, "gone": 2}, {"same": 1, "crops": "1", "new": "x" * 60}
    )
    assert found == [
        "crops: model 'full', features '1'",
        "gone: model '2', features 'null'",
        "new: model 'null', features 'xxxxxxxxxxxxxxxx...'",
    ]
    assert differences({"a": [1]}, {"a": [1]}) == []


# --- requests ---


def fake_backbone(**changes: Any) -> Any:
    values = {"name": "toy", "weights_digest": "w" * 64, "channels": 7, "stride": 32, "mean": (0.1, 0.2, 0.3)}
    values |= {"std": (1.0, 0.5, 0.25), "input_size": 64, "resize": 72, "interpolation": "bicubic"} | changes
    recipe = Preprocessing(*(values.pop(name) for name in ("input_size", "resize", "interpolation", "mean", "std")))
    return SimpleNamespace(preprocessing=recipe, **values)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"weights_digest": "v" * 64},
        {"channels": 8},
        {"mean": (0.2, 0.1, 0.3)},
        {"std": (1.0, 0.5, 0.26)},
        {"input_size": 96},
        {"resize": 73},
        {"interpolation": "bilinear"},
    ],
    ids=str,
)
def test_everything_of_the_backbone_that_decides_a_feature_is_in_its_meaning(change: dict[str, Any]) -> None:
    request = Request(crops="1")
    assert request.spec(fake_backbone(), "fp32").meaning != request.spec(fake_backbone(**change), "fp32").meaning


@pytest.mark.parametrize(
    "change", [{"crops": "3"}, {"sampling": Sampling(frames=24)}, {"sampling": Sampling(frames=None, fps=1.0)}], ids=str
)
def test_view_and_sampling_are_in_the_meaning(change: dict[str, Any]) -> None:
    one, other = (
        Request(**fields).spec(fake_backbone(), "fp32") for fields in ({"crops": "1"}, {"crops": "1", **change})
    )
    assert one.meaning_digest != other.meaning_digest


def test_flow_is_another_meaning_and_that_of_pictures_stays_as_it_was() -> None:
    """The digests are those of caches that were made before there was a choice."""
    then = {"sampling": Sampling(frames=25), "input_size": None}
    rgb, flow = (Request(modality=name, **then).spec(fake_backbone(), "fp32") for name in ("rgb", "flow"))
    assert rgb.digest == "aec1080c2b3549b9016f20af6db07512d0269959a73008ba16490ac39057468a"
    assert rgb == Request(**then).spec(fake_backbone(), "fp32")
    assert flow.meaning_digest != rgb.meaning_digest
    assert flow.meaning["modality"] == "flow"
    assert (flow.meaning["flow"]["fields"], flow.meaning["flow"]["bound"]) == (5, 20.0)
    assert json.loads(json.dumps(flow.meaning)) == flow.meaning
    assert "modality" not in Request().memo()  # so that listings of then are known again


@pytest.mark.parametrize("change", [{"decoder": "pyav"}, {"device": "cpu"}], ids=str)
def test_how_a_feature_was_computed_is_not_in_the_meaning(change: dict[str, Any]) -> None:
    assert Request().spec(fake_backbone(), "fp32").digest == Request(**change).spec(fake_backbone(), "fp32").digest
    assert Request().spec(fake_backbone(), "fp32").meaning == Request().spec(fake_backbone(), "bf16").meaning
    assert Request().spec(fake_backbone(), "fp32").digest != Request().spec(fake_backbone(), "bf16").digest


def test_meaning_survives_json() -> None:
    meaning = Request().spec(fake_backbone(), "fp32").meaning
    assert json.loads(json.dumps(meaning)) == meaning


CHANGES: dict[str, Any] = {
    "backbone": "tv:resnet18",
    "weights": "random",
    "input_size": 96,
    "crops": "5",
    "sampling": Sampling(frames=3),
    "decoder": "pyav",
    "device": "cpu",
    "precision": "bf16",
    "runtime": "torch",
    "modality": "flow",
}


@pytest.mark.parametrize("name", [field.name for field in fields(Request)])
def test_memo_changes_with_every_field_of_the_request(name: str) -> None:
    assert Request().memo() == Request().memo()
    assert Request(**{name: CHANGES[name]}).memo() != Request().memo()
    assert json.loads(json.dumps(Request().memo())) == Request().memo()


def test_memo_changes_with_the_weights_file_and_the_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"1234")
    request = Request("tv:resnet50")  # the file is wherever torchvision found it
    memo = json.loads(json.dumps(request.memo(path)))
    assert request.made(memo)
    assert not Request("tv:resnet18").made(memo)
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))  # the system notes it
    assert not request.made(memo)
    memo = request.memo(path)
    path.unlink()
    assert not request.made(memo)
    monkeypatch.setattr(request_module, "version", lambda package: "9.9" if package == "timm" else "1.0")
    assert Request().memo()["versions"]["timm"] == "9.9"


def test_a_relative_weights_file_is_kept_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Request(weights="w.pth").recipe()["weights"] == str(tmp_path / "w.pth")
    assert Request(weights="random").recipe()["weights"] == "random"


@pytest.mark.parametrize("sampling", [Sampling(frames=7), Sampling(frames=None, fps=2.5, max_frames=9)])
@pytest.mark.parametrize("modality", ["rgb", "flow"])
def test_a_recipe_gives_the_request_again(sampling: Sampling, modality: str) -> None:
    request = Request("tv:resnet18", "random", 96, "3", sampling, modality=modality)
    recipe = json.loads(json.dumps(request.recipe()))
    assert Request.from_recipe(recipe) == request
    assert Request.from_recipe(recipe, device="cpu").device == "cpu"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("crops", "2", "choose from 1, 3, 5, 10, full, squash"),
        ("decoder", "ffmpeg", "choose from auto, pyav, decord"),
        ("device", "tpu", "choose from auto, cpu, cuda"),
        ("precision", "int8", "choose from auto, fp32, fp16, bf16"),
        ("modality", "depth", "choose from rgb, flow"),
        ("input_size", 31, "accepted are 32 to 2048"),
        ("input_size", 2049, "accepted are 32 to 2048"),
    ],
)
def test_values_that_are_not_known_name_those_that_are(field: str, value: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Request(**{field: value})


@pytest.mark.parametrize("side", [None, 32, 2048])
def test_sides_at_the_limits_are_accepted(side: int | None) -> None:
    assert Request(input_size=side).input_size == side


@pytest.mark.parametrize(("name", "value"), [("sampling", 3), ("backbone", None), ("channels", "5"), ("crops", [])])
def test_fields_that_all_read_have_their_types(name: str, value: object) -> None:
    data = Spec({"backbone": "x", "channels": 5, "crops": "1", "sampling": {}, name: value}, {}).to_json()
    with pytest.raises(ValueError, match=name):
        Spec.from_json(data)
