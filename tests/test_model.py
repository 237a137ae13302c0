"""The model folder: what is saved comes back; what is not ours, damaged or half replaced is told or mended."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from rratag import model as model_module
from rratag import sealed
from rratag.errors import ModelError, StoppedError
from rratag.head.rra import HeadConfig
from rratag.head.variants import HEADS, build_head
from rratag.model import LABELS_FILE, MODEL_FILES, Model, load_model, save_model
from rratag.model_backbone import BACKBONE_FILE

NAMES = ["bunting", "Zaunkönig", 'a, "b"\n=1+1']


def make_model(kind: str = "rra", seed: int = 0, **info: Any) -> Model:
    torch.manual_seed(seed)
    config = HeadConfig(6, 3, kind=kind, num_glimpses=2)
    head = build_head(config)
    with torch.no_grad():
        for value in head.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.1)
    meaning = {"channels": 6, "backbone": "toy", "weights": "0" * 64}
    request = {"backbone": "toy", "weights": None, "sampling": {"frames": 25}}
    return Model(head.eval(), config, list(NAMES), meaning, request, info)


@pytest.mark.parametrize("kind", HEADS)
def test_what_is_saved_comes_back(kind: str, tmp_path: Path) -> None:
    model = make_model(kind, compute={"precision": "fp16"})
    save_model(
        tmp_path / "models" / "latest", model, {"accuracy": 0.5}, [{"epoch": 1}, {"epoch": 2, "loss": 0.25}], "a,b\n"
    )
    found = load_model(tmp_path / "models" / "latest")
    assert (found.head_config, found.class_names) == (model.head_config, NAMES)
    assert (found.meaning, found.spec_request, found.info) == (model.meaning, model.spec_request, model.info)
    assert not found.head.training
    features = torch.rand(2, 3, 2, 2, 6)
    assert torch.equal(found.head(features).logits, model.head(features).logits)
    assert {path.name for path in (tmp_path / "models" / "latest").iterdir()} == set(MODEL_FILES) - {BACKBONE_FILE}
    assert (tmp_path / "models" / "latest" / LABELS_FILE).read_text() == "a,b\n"
    assert json.loads((tmp_path / "models" / "latest" / "metrics.json").read_text()) == {"accuracy": 0.5}
    with (tmp_path / "models" / "latest" / "history.csv").open(newline="") as handle:
        assert list(csv.DictReader(handle)) == [{"epoch": "1", "loss": ""}, {"epoch": "2", "loss": "0.25"}]
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["latest"]


def test_labels_of_the_model_before_do_not_stand_beside_the_next(tmp_path: Path) -> None:
    folder, model = tmp_path / "latest", make_model("mean")
    save_model(folder, model, labels="a,b\n")
    (folder / "notes.txt").write_text("mine")
    save_model(folder, model)
    assert {path.name for path in folder.iterdir()} == {*MODEL_FILES, "notes.txt"} - {LABELS_FILE, BACKBONE_FILE}


def test_numbers_that_json_does_not_have_become_null(tmp_path: Path) -> None:
    save_model(tmp_path / "m", make_model(), {"accuracy": {"rare": float("nan")}, "losses": [1.5, float("inf")]})
    assert json.loads((tmp_path / "m" / "metrics.json").read_text()) == {
        "accuracy": {"rare": None},
        "losses": [1.5, None],
    }


def test_the_default_is_the_model_trained_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"\.rratag/models/latest: no such model folder; run: rratag train"):
        load_model()
    save_model(Path(".rratag/models/latest"), make_model())
    assert load_model().class_names == NAMES


def test_a_loaded_model_can_be_trained_on(tmp_path: Path) -> None:
    save_model(tmp_path / "m", make_model())
    head = load_model(tmp_path / "m").head.train()
    head(torch.rand(2, 3, 2, 2, 6)).logits.sum().backward()
    assert all(value.grad is not None for value in head.parameters())


def test_the_card_says_what_the_model_is(tmp_path: Path) -> None:
    save_model(tmp_path / "m", make_model(), {"validation_accuracy": 0.75})
    card = (tmp_path / "m" / "README.md").read_text(encoding="utf-8")
    for part in ("rra, 2 glimpses, 6 channels", "- backbone: toy", "validation_accuracy: 0.75", "    Zaunkönig\n"):
        assert part in card
    assert '    a, "b" =1+1\n' in card
    assert "random weights" not in card
    save_model(tmp_path / "m", make_model(random_backbone=True))
    assert "**The backbone has random weights" in (tmp_path / "m" / "README.md").read_text(encoding="utf-8")


def test_replacing_keeps_what_a_user_put_there(tmp_path: Path) -> None:
    save_model(tmp_path / "m", make_model())
    (tmp_path / "m" / "tags.csv").write_text("mine")
    newer = make_model(seed=1)
    save_model(tmp_path / "m", newer)
    assert torch.equal(load_model(tmp_path / "m").head.first.queries, newer.head.first.queries)
    assert (tmp_path / "m" / "tags.csv").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("content", ["videos", "other config", "file"])
def test_a_folder_that_is_not_a_model_is_left_alone(content: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    if content == "file":
        folder.write_text("mine")
    else:
        folder.mkdir()
        (folder / ("a.mp4" if content == "videos" else "config.json")).write_text("{}")
    with pytest.raises(ModelError, match="is there and is not a model of rratag; choose another name"):
        save_model(folder, make_model())
    assert folder.is_file() or [path.read_text() for path in folder.iterdir()] == ["{}"]
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_an_empty_folder_becomes_a_model(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    save_model(tmp_path / "m", make_model())
    assert load_model(tmp_path / "m").class_names == NAMES


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours may catch it and tidy up."""


@pytest.mark.parametrize("call", range(3))
def test_a_kill_while_replacing_leaves_the_old_model_or_the_new(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the first rename, before the second, and after it."""
    old, new = make_model(), make_model(seed=1)
    save_model(tmp_path / "m", old)
    (tmp_path / "m" / "tags.csv").write_text("mine")
    calls = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def function(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call + 1:
                raise Killed
            return original(*arguments, **options)

        return function

    with monkeypatch.context() as patch:
        patch.setattr(model_module.os, "rename", counted(os.rename))
        patch.setattr(model_module, "_keep_others", counted(model_module._keep_others))
        with pytest.raises(Killed):
            save_model(tmp_path / "m", new)
    expected = new if call == 2 else old
    assert torch.equal(load_model(tmp_path / "m").head.first.queries, expected.head.first.queries)
    newest = make_model(seed=2)
    save_model(tmp_path / "m", newest)
    assert torch.equal(load_model(tmp_path / "m").head.first.queries, newest.head.first.queries)
    assert (tmp_path / "m" / "tags.csv").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_saved(value: float, tmp_path: Path) -> None:
    model = make_model()
    with torch.no_grad():
        model.head.classifiers[1].bias[2] = value
    with pytest.raises(ModelError, match="the weights are not finite, so the model is not saved"):
        save_model(tmp_path / "m", model)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_keeps_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tmp_path / "m", make_model())

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("rratag.files.write_atomically", full)
        with pytest.raises(
            StoppedError, match="the model cannot be written \\(No space left on device\\); free some space"
        ):
            save_model(tmp_path / "m", make_model(seed=1))
    assert load_model(tmp_path / "m").class_names == NAMES
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_bytes(sealed.to_bytes({**json.loads(path.read_text()), **changes}))


def without(folder: Path, name: str) -> None:
    path = folder / "config.json"
    path.write_bytes(
        sealed.to_bytes({key: value for key, value in json.loads(path.read_text()).items() if key != name})
    )


def reweigh(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the weights and let config.json name them, as someone who edits a model would."""
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    content = safetensors.torch.save(tensors)
    path.write_bytes(content)
    rewrite(folder, weights_sha256=hashlib.sha256(content).hexdigest())


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "config.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))  # only content that is refused before its checksum


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 1


def garbage(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"garbage")
    rewrite(folder, weights_sha256=hashlib.sha256(b"garbage").hexdigest())


HEAD = HeadConfig(6, 3, num_glimpses=2).to_json()
DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (lambda m: (m / "config.json").unlink(), r"not a model of rratag \(no config.json\)"),
    "no JSON": (lambda m: (m / "config.json").write_text("{"), r"damaged \(Expecting"),
    "no UTF-8": (lambda m: (m / "config.json").write_bytes(b"\xff\xfe\xff"), r"damaged \("),
    "deep": (lambda m: (m / "config.json").write_text("[" * 200_000), r"damaged \(more than 32 levels deep\)"),
    "a list": (lambda m: (m / "config.json").write_text("[]"), "not a model of rratag"),
    "another format": (lambda m: rewrite(m, format="sklearn"), "not a model of rratag"),
    "newer": (lambda m: rewrite(m, version=2), "model format version 2, this program reads 1; upgrade rratag"),
    "no head": (lambda m: without(m, "head"), r"damaged \('head'\)"),
    "no meaning": (lambda m: without(m, "meaning"), r"damaged \('meaning'\)"),
    "unknown head": (lambda m: rewrite(m, head={**HEAD, "kind": "x"}), r"damaged \(unknown head 'x'"),
    "head of another type": (lambda m: rewrite(m, head=3), r"damaged \(a head has the fields"),
    "huge head": (lambda m: rewrite(m, head={**HEAD, "channels": 2**20}), r"features of 6 channels, a head of 1048576"),
    "a changed letter": (
        lambda m: edit(m, '"bunting"', '"hunting"'),
        r"damaged \(it was changed after it was written\)",
    ),
    "other K": (lambda m: rewrite(m, head={**HEAD, "num_glimpses": 3}), "does not fit the head"),
    "names": (lambda m: rewrite(m, class_names=["a", "b"]), "2 class names for 3 classes"),
    "equal names": (lambda m: rewrite(m, class_names=["a", "a", "b"]), "class_names are not different strings"),
    "numbers as names": (lambda m: rewrite(m, class_names=[1, 2, 3]), "class_names are not different strings"),
    "names as text": (lambda m: rewrite(m, class_names="abc"), "class_names is not a list"),
    "info": (lambda m: rewrite(m, info=[]), "info is not a dict"),
    "larger than any": (lambda m: (m / "config.json").write_bytes(b" " * (2**24 + 1)), "more than 16,777,216 bytes"),
    "millions of values": (
        lambda m: rewrite(m, class_names=[[]] * 2**21),
        r"damaged \(more than 2,097,152 values\)",
    ),
    "a name twice": (
        lambda m: edit(m, '"format"', '"info": {}, "format"'),
        r"damaged \('info' is there twice\)",
    ),
    "a number that is none": (lambda m: edit(m, "0.5", "NaN"), r"damaged \(NaN is no number of JSON\)"),
    "a number without end": (lambda m: edit(m, "0.5", "9" * 5000), r"damaged \('9{60}'... is too large\)"),
    "deep inside": (lambda m: rewrite(m, info={"a": nested(40)}), "more than 32 levels deep"),
    "version of any type": (lambda m: rewrite(m, version=["x" * 999]), "version a list, this program reads 1"),
    "negative": (lambda m: rewrite(m, head={**HEAD, "channels": -1}), "channels is -1; it must be from 1 to"),
    "many glimpses": (lambda m: rewrite(m, head={**HEAD, "num_glimpses": 10**9}), "num_glimpses is 1000000000"),
    "many classes": (lambda m: rewrite(m, head={**HEAD, "num_classes": 2**20}), "3 class names for 1048576 classes"),
    "a long name of a head": (
        lambda m: rewrite(m, head={**HEAD, "kind": "x" * 10**6}),
        "unknown head 'x+\\); train again$",
    ),
    "digest": (lambda m: rewrite(m, weights_sha256=3), "weights_sha256 is not a str"),
    "compute": (lambda m: rewrite(m, info={"compute": 3}), "info is not what it was written as"),
    "roots": (lambda m: rewrite(m, info={"roots": ["a", 3]}), "info is not what it was written as"),
    "a root with NUL": (lambda m: rewrite(m, info={"roots": ["/a\0"]}), "info is not what it was written as"),
    "a root that no disk can hold": (lambda m: rewrite(m, info={"roots": ["/\ud800"]}), "damaged .*can't encode"),
    "random": (lambda m: rewrite(m, info={"random_backbone": "no"}), "info is not what it was written as"),
    "recipe": (lambda m: rewrite(m, spec_request={"more": 1}), "spec_request has 'more' of 1"),
    "backbone": (lambda m: rewrite(m, spec_request={"backbone": 5}), "spec_request has 'backbone' of 5"),
    "weights of a list": (
        lambda m: rewrite(m, spec_request={"weights": ["w"]}),
        "spec_request has 'weights' of a list",
    ),
    "input size": (lambda m: rewrite(m, spec_request={"input_size": True}), "spec_request has 'input_size' of True"),
    "sampling": (
        lambda m: rewrite(m, spec_request={"sampling": {"frames": "25"}}),
        "spec_request.sampling is not what",
    ),
    "more sampling": (lambda m: rewrite(m, spec_request={"sampling": {"every": 3}}), "spec_request.sampling is not"),
    "more weights": (
        lambda m: reweigh(m, lambda t: t.update(more=torch.zeros(2**21))),
        r"does not fit the head that config.json describes \(more than",
    ),
    "complex weights": (
        lambda m: reweigh(m, lambda t: t.update({"first.queries": torch.zeros(1, 6, dtype=torch.complex64)})),
        "damaged .not safetensors",
    ),
    "no weights": (lambda m: (m / "model.safetensors").unlink(), "cannot be read"),
    "cut off": (lambda m: os.truncate(m / "model.safetensors", 100), "damaged .not the weights that config.json names"),
    "garbage": (garbage, r"damaged \(not safetensors\)"),
    "no tensor": (lambda m: reweigh(m, lambda t: t.pop("first.queries")), "does not fit the head"),
    "another shape": (lambda m: reweigh(m, lambda t: t.update({"first.queries": torch.zeros(2, 6)})), "does not fit"),
    "another type": (lambda m: reweigh(m, lambda t: t.update({"first.queries": torch.zeros(1, 6).half()})), "not fit"),
    "not finite": (
        lambda m: reweigh(m, lambda t: t["fc.0.bias"].fill_(float("nan"))),
        "fc.0.bias holds values that are not",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_one_line(name: str, tmp_path: Path) -> None:
    damage, message = DAMAGES[name]
    save_model(tmp_path / "m", make_model())
    damage(tmp_path / "m")
    with pytest.raises(ModelError, match=message) as caught:
        load_model(tmp_path / "m")
    assert str(tmp_path / "m") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 400


def test_class_names_of_any_text_come_back(tmp_path: Path) -> None:
    model = make_model()
    model.class_names = ["a\x1b[31m\n\0", "\u202e\udcff", "x" * 10_000]
    save_model(tmp_path / "m", model)
    assert load_model(tmp_path / "m").class_names == model.class_names


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("")
    with pytest.raises(ModelError, match="no such model folder"):
        load_model(tmp_path / "m")
