"""Losses against loops, and the way of their names through text."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rratag.errors import UsageError
from rratag.head.losses import LOSSES, Loss, glimpse_losses, parse_loss
from rratag.head.scores import concatenation_scores, ensemble_scores, glimpse_scores

B, K, CLASSES = 4, 3, 5
LOGITS = torch.randn(B, K, CLASSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
LABELS = torch.tensor([0, 4, 2, 2])
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 1.0, 0.25], dtype=torch.float64)


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


GLIMPSES = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)


def by_loops(name: str, weights: list[float], importance: list[float] | None = None) -> float:
    """Weighted mean over the batch of Eq. 3 to 6."""
    importance = importance or [1 / K] * K
    total = 0.0
    for b in range(B):
        label = int(LABELS[b])
        glimpses = [softmax(LOGITS[b, k].tolist()) for k in range(K)]
        if name == "Lc":
            loss = -math.log(softmax(LOGITS[b].sum(0).tolist())[label])
        elif name == "Li":
            loss = sum(-math.log(y[label]) for y in glimpses)
        else:
            loss = -math.log(sum(w * y[label] for w, y in zip(importance, glimpses, strict=True)))
        total += weights[label] * loss
    return total / sum(weights[int(label)] for label in LABELS)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
def test_losses_equal_loops(name: str, weights: torch.Tensor | None) -> None:
    wanted = by_loops(name, [1.0] * CLASSES if weights is None else weights.tolist())
    assert LOSSES[name](LOGITS, LABELS, weights).item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
def test_losses_of_each_glimpse_equal_loops(weights: torch.Tensor | None) -> None:
    by_class = [1.0] * CLASSES if weights is None else weights.tolist()
    importance = [by_class[label] for label in LABELS.tolist()]
    for k, found in enumerate(glimpse_losses(LOGITS, LABELS, weights).tolist()):
        losses = [-math.log(softmax(LOGITS[b, k].tolist())[LABELS[b]]) for b in range(B)]
        assert found == pytest.approx(sum(map(math.prod, zip(importance, losses, strict=True))) / sum(importance))


@pytest.mark.parametrize("name", LOSSES)
def test_weights_of_glimpses_count_in_the_ensemble_alone(name: str) -> None:
    wanted = by_loops(name, WEIGHTS.tolist(), GLIMPSES.tolist())
    assert LOSSES[name](LOGITS, LABELS, WEIGHTS, GLIMPSES).item() == pytest.approx(wanted, rel=1e-12)
    assert (wanted != pytest.approx(by_loops(name, WEIGHTS.tolist()))) == (name == "Le")
    scores = ensemble_scores(LOGITS, GLIMPSES)
    for b in range(B):
        glimpses = [softmax(LOGITS[b, k].tolist()) for k in range(K)]
        for c in range(CLASSES):
            assert scores[b, c].item() == pytest.approx(sum(GLIMPSES[k].item() * glimpses[k][c] for k in range(K)))


def test_sums_are_weighted() -> None:
    ones = [1.0] * CLASSES
    wanted = 0.5 * by_loops("Lc", ones) + by_loops("Li", ones) + 2 * by_loops("Le", ones)
    loss = parse_loss("0.5Lc + Li + 2*Le")
    assert loss(LOGITS, LABELS).item() == pytest.approx(wanted, rel=1e-12)
    assert {name: value.item() for name, value in loss.parts(LOGITS, LABELS).items()} == {
        name: pytest.approx(by_loops(name, ones)) for name in ("Lc", "Li", "Le")
    }


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_equal_finite_differences(name: str) -> None:
    logits = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, LABELS, WEIGHTS), (logits,))
    importance = GLIMPSES.log().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: LOSSES[name](x, LABELS, WEIGHTS, w.softmax(0)), (logits, importance))


def test_ensemble_loss_keeps_its_gradient_where_probabilities_underflow() -> None:
    logits = torch.tensor([[[0.0, 500.0], [0.0, 400.0]]], requires_grad=True)  # exp(-400) is 0 in float32
    loss = LOSSES["Le"](logits, torch.tensor([0]), None)
    loss.backward()
    assert loss.item() == pytest.approx(400 + math.log(2))
    torch.testing.assert_close(logits.grad, torch.tensor([[[0.0, 0.0], [-1.0, 1.0]]]))


def test_logits_of_two_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"logits must be \(B, K, num_classes\), not \(4, 5\)"):
        parse_loss("Li")(LOGITS[:, 0], LABELS)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("Li+Le", "Li+Le"),
        (" Li +  Le ", "Li+Le"),
        ("Li+0.5Le", "Li+0.5Le"),
        ("Li+.5*Le", "Li+0.5Le"),
        ("Li + 0.5 * Le", "Li+0.5Le"),
        ("Le+Li", "Le+Li"),
        ("2.0Lc", "2Lc"),
        ("1Lc", "Lc"),
    ],
)
def test_accepted_spellings(text: str, canonical: str) -> None:
    assert str(parse_loss(text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Lx",
        "li",
        "Li+",
        "+Li",
        "Li++Le",
        "Li Le",
        "Li-Le",
        "Li*0.5",
        "0Li",
        "-1Li",
        "nanLi",
        "1e400Li",
        "Li+Li",
        "0.5",
    ],
)
def test_refused_spellings_name_the_accepted_terms(text: str) -> None:
    with pytest.raises(UsageError, match=r"accepted: a sum of Lc, Li, Le with weights, e\.g\. Li\+0\.5Le") as caught:
        parse_loss(text)
    assert "\n" not in str(caught.value)


weights = st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.sampled_from(sorted(LOSSES)), weights, min_size=1), st.sampled_from(["", " ", "  "]))
def test_text_round_trip(terms: dict[str, float], space: str) -> None:
    loss = Loss(tuple(terms.items()))
    text = str(loss)
    assert parse_loss(text) == loss
    assert parse_loss(text.replace("+", f"{space}+{space}").replace("L", f"{space}L")) == loss


def test_scores() -> None:
    for b in range(B):
        glimpses = torch.tensor([softmax(LOGITS[b, k].tolist()) for k in range(K)], dtype=torch.float64)
        torch.testing.assert_close(glimpse_scores(LOGITS)[b], glimpses)
        torch.testing.assert_close(ensemble_scores(LOGITS)[b], glimpses.mean(0))
        summed = torch.tensor(softmax(LOGITS[b].sum(0).tolist()), dtype=torch.float64)
        torch.testing.assert_close(concatenation_scores(LOGITS)[b], summed)
