"""Every head against loops from the equations, its gradients against finite differences, padding against no padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rratag.errors import UsageError
from rratag.head import onepass, variants
from rratag.head.losses import parse_loss
from rratag.head.rra import GlimpseHead, HeadConfig
from rratag.head.variants import HEADS, build_head
from tests.head import reference

C, CLASSES = 5, 3
SIZES = [(2, 2, 3), (1, 2, 2), (3, 1, 2), (2, 2, 3)]
"""(N, h, w) of each video of the padded batch."""

CONFIGS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {"input_bn": False},
    "one-glimpse": {"num_glimpses": 1},
    "spatial": {"attention": "spatial"},
    "mean-attention": {"attention": "mean"},
    "no-norm": {"norm": False},
    "no-norm-paper": {"norm": False, "input_bn": False},
    "no-relu": {"relu": False},
    "neither": {"relu": False, "norm": False},
    "linear": {"reduction": "linear"},
    "neg-relu": {"reduction": "neg-relu"},
    "zero": {"reduction": "zero"},
    "zero-no-norm": {"reduction": "zero", "norm": False},
    "original": {"map": "original"},
    "original-paper": {"map": "original", "input_bn": False},
    "original-no-relu": {"map": "original", "relu": False},
    "parallel": {"kind": "parallel"},
    "parallel-paper": {"kind": "parallel", "input_bn": False},
    "parallel-spatial": {"kind": "parallel", "attention": "spatial"},
    "mean": {"kind": "mean"},
    "mean-paper": {"kind": "mean", "input_bn": False},
    "tsn": {"kind": "tsn"},
    "tsn-paper": {"kind": "tsn", "input_bn": False},
    "single-frame": {"kind": "single-frame"},
    "clusters": {"kind": "clusters"},
    "learned-weights": {"glimpse_weights": "learned"},
    "fixed-weights": {"kind": "parallel", "glimpse_weights": "1,3,0.5"},
}


def make_head(name: str, seed: int = 0) -> GlimpseHead:
    """A float64 head in which no weight has a special value."""
    torch.manual_seed(seed)
    settings = {"num_glimpses": 3, "dropout": 0.0} | CONFIGS[name]
    head = build_head(HeadConfig(C, CLASSES, **settings)).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.7 + 0.1)
        for key, value in head.named_buffers():
            if key.endswith("running_var"):
                value.copy_(torch.rand_like(value) + 0.5)
            elif key.endswith("running_mean"):
                value.copy_(torch.randn_like(value) * 0.3)
    return head


def make_batch(padded: bool, seed: int = 1) -> tuple[Tensor, Tensor | None]:
    """Features (4, N, h, w, C) in float64 and the mask, with garbage where padded."""
    generator = torch.Generator().manual_seed(seed)
    N, h, w = (max(size[axis] for size in SIZES) for axis in range(3))
    features = torch.randn(len(SIZES), N, h, w, C, generator=generator, dtype=torch.float64) + 0.4
    if not padded:
        return features, None
    mask = torch.zeros(len(SIZES), N, h, w, dtype=torch.bool)
    for row, (n, height, width) in enumerate(SIZES):
        mask[row, :n, :height, :width] = True
    return features.masked_fill(~mask.unsqueeze(-1), float("nan")), mask


@pytest.fixture(autouse=True)
def two_videos_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch of four in two groups of two, so that a mix-up of rows or groups shows."""
    N, h, w = (max(size[axis] for size in SIZES) for axis in range(3))
    monkeypatch.setattr(onepass, "_CACHED_ELEMENTS", 2 * N * h * w * C)


@pytest.fixture
def middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn in training is the middle."""
    monkeypatch.setattr(variants, "_drawn", lambda counts: counts // 2)


def expected(head: GlimpseHead, features: Tensor, mask: Tensor | None, *, training: bool) -> Any:
    state = {name: value.detach().numpy() for name, value in head.state_dict().items()}
    real = torch.ones(features.shape[:4], dtype=torch.bool) if mask is None else mask
    return reference.head(head.config, state, features.numpy(), real.numpy(), training=training)


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", CONFIGS)
def test_head_equals_loops(name: str, training: bool, padded: bool, middle: None) -> None:
    head = make_head(name).train(training)
    features, mask = make_batch(padded)
    wanted = expected(head, features, mask, training=training)
    untouched = features.clone()
    for recording in (True, False):  # without gradients maps are overwritten and taken in groups
        with torch.set_grad_enabled(recording):
            output = head(features, mask)
        for found, value in zip(output, wanted, strict=True):
            torch.testing.assert_close(found.detach(), torch.from_numpy(value), rtol=1e-9, atol=1e-11)
        assert torch.equal(features.nan_to_num(7), untouched.nan_to_num(7))


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_equal_finite_differences(name: str, training: bool, padded: bool, middle: None) -> None:
    head = make_head(name).train(training)
    features, mask = make_batch(padded)
    features = features.nan_to_num(0)
    names, parameters = zip(*((key, value.detach().clone()) for key, value in head.named_parameters()), strict=True)
    buffers = dict(head.named_buffers())

    def run(features: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        state = dict(zip(names, values, strict=True)) | {key: value.clone() for key, value in buffers.items()}
        # attention of Fig. 1 is differentiated too (Eq. 7), as are the summaries
        return tuple(torch.func.functional_call(head, state, (features, mask)))

    inputs = [one.requires_grad_() for one in (features, *parameters)]
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True, eps=1e-7, atol=1e-6, rtol=1e-5)
    # and without gradients for the features, as in training from the cache
    ways = [torch.randn_like(one) for one in run(*inputs)]

    def total(*values: Tensor) -> Tensor:
        return torch.stack([(one * way).sum() for one, way in zip(run(*values), ways, strict=True)]).sum()

    with_features = torch.autograd.grad(total(*inputs), inputs[1:], allow_unused=True)
    without = torch.autograd.grad(total(inputs[0].detach(), *inputs[1:]), inputs[1:], allow_unused=True)
    for one, other in zip(with_features, without, strict=True):
        assert (one is None and other is None) or torch.allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_padded_batch_equals_one_by_one_in_evaluation(name: str) -> None:
    head = make_head(name).eval()
    features, mask = make_batch(padded=True)
    with torch.inference_mode():
        together = head(features, mask)
        for row, (N, h, w) in enumerate(SIZES):
            alone = head(features[row : row + 1, :N, :h, :w])
            torch.testing.assert_close(alone.logits[0], together.logits[row], rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(alone.summaries[0], together.summaries[row], rtol=1e-10, atol=1e-12)
            attention = together.attention[row]
            torch.testing.assert_close(alone.attention[0], attention[:, :N, :h, :w], rtol=1e-10, atol=1e-12)
            assert attention[:, ~mask[row]].abs().sum() == 0


def test_reduced_maps_are_zero_where_padded() -> None:
    head = make_head("no-relu").eval()
    features, mask = make_batch(padded=True)
    for recording in (True, False):
        with torch.set_grad_enabled(recording):
            maps, _, _ = head.first(head._maps(features, mask), None)
        assert maps.values[~mask.flatten(1)].abs().max() == 0
        assert maps.values[mask.flatten(1)].abs().max() > 0


def test_masked_statistics_are_those_of_the_real_positions() -> None:
    head = make_head("default").train()
    features, mask = make_batch(padded=True)
    with torch.no_grad():
        head(features, mask)
    real = features[mask]  # (all real positions, C)
    norm = head.first.norm
    torch.testing.assert_close(norm.running_mean, real.mean(0))
    torch.testing.assert_close(norm.running_var, real.var(0, correction=1))


@pytest.mark.parametrize("name", CONFIGS)
def test_attention_is_a_distribution(name: str) -> None:
    head = make_head(name).eval()
    features, mask = make_batch(padded=True)
    attention = head(features, mask).attention
    assert attention.min() >= 0
    torch.testing.assert_close(attention.sum((2, 3, 4)), torch.ones(4, head.config.num_glimpses, dtype=torch.float64))


def test_one_glimpse_is_plain_attention() -> None:
    torch.manual_seed(0)
    head = build_head(HeadConfig(C, CLASSES, num_glimpses=1, input_bn=False)).eval()
    x = torch.randn(2, 3, 2, 2, C)
    flat = x.flatten(1, 3)
    weights = (flat @ head.first.queries[0]).softmax(-1)
    pooled = torch.einsum("bp,bpc->bc", weights, flat)
    torch.testing.assert_close(head(x).logits[:, 0], head.classifiers[0](pooled))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_learns(name: str) -> None:
    head = make_head(name).train()
    features, mask = make_batch(padded=True)
    output = head(features, mask)
    parse_loss("Li+Le")(output.logits, torch.tensor([0, 1, 2, 0]), None, output.weights).backward()
    assert [key for key, value in head.named_parameters() if value.grad is None] == []


def test_counts_of_modules() -> None:
    """K-1 reductions for K glimpses, nothing shared, no FC for the zero reduction."""
    head = build_head(HeadConfig(C, CLASSES, num_glimpses=4))
    sizes = {name: value.numel() for name, value in head.named_parameters()}
    per_norm, per_fc = 2 * C, C * C + C
    assert sum(sizes.values()) == 4 * per_norm + 4 * C + 3 * per_fc + 4 * (C * CLASSES + CLASSES)
    zero = build_head(HeadConfig(C, CLASSES, num_glimpses=4, reduction="zero"))
    assert sum(value.numel() for value in zero.parameters()) == sum(sizes.values()) - 3 * per_fc


def test_dropout_stands_before_the_classifiers_only() -> None:
    torch.manual_seed(0)
    head = build_head(HeadConfig(C, CLASSES, dropout=0.9)).train()
    x = torch.rand(4, 2, 2, 2, C)
    first, second = head(x), head(x)
    assert torch.equal(first.summaries, second.summaries)
    assert not torch.equal(first.logits, second.logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_half_precision_maps_are_computed_with_in_float32(dtype: torch.dtype, training: bool) -> None:
    head = make_head("default").float().train(training)
    features = make_batch(padded=False)[0].to(dtype)  # the same values in both runs
    grads = []
    for maps in (features, features.float()):
        head.zero_grad()
        output = head(maps)
        assert output.logits.dtype == torch.float32
        parse_loss("Li+Le")(output.logits, torch.tensor([0, 1, 2, 0])).backward()
        grads.append((output.logits.detach(), [value.grad.clone() for value in head.parameters()]))
    # X-bar^1 .. X-bar^2 are rounded to 8 (bfloat16) or 11 bits between glimpses
    tolerance = 0.1 if dtype == torch.bfloat16 else 0.02
    torch.testing.assert_close(grads[0][0], grads[1][0], rtol=tolerance, atol=tolerance)
    for half, full in zip(grads[0][1], grads[1][1], strict=True):
        assert (half - full).norm() <= tolerance * full.norm() + 1e-3


@pytest.mark.parametrize(
    ("features", "mask", "message"),
    [
        (torch.zeros(2, 3, 4, C), None, r"features must be \(B, N, h, w, 5\), not \(2, 3, 4, 5\)"),
        (torch.zeros(2, 3, 4, 4, C + 1), None, r"not \(2, 3, 4, 4, 6\)"),
        (torch.zeros(0, 3, 4, 4, C), None, r"not \(0, 3, 4, 4, 5\)"),
        (torch.zeros(2, 3, 4, 4, C), torch.ones(2, 3, 4, dtype=torch.bool), r"mask must be \(2, 3, 4, 4\)"),
    ],
)
def test_wrong_shapes_are_shown(features: Tensor, mask: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_head(HeadConfig(C, CLASSES))(features, mask)


def test_the_table_names_every_head() -> None:
    assert sorted(HEADS) == ["clusters", "mean", "parallel", "rra", "single-frame", "tsn"]


def test_a_single_frame_is_a_random_one_in_training_and_the_middle_one_in_testing() -> None:
    head = build_head(HeadConfig(C, CLASSES, kind="single-frame", dropout=0.0))
    features = torch.randn(200, 5, 2, 2, C)
    torch.manual_seed(0)
    looked = head(features).attention[:, 0].sum((2, 3))  # (B, N)
    assert torch.equal(looked.sum(1), torch.ones(200))
    counts = looked.sum(0)
    assert counts.sum() == 200
    assert counts.min() > 20
    head.eval()
    assert torch.equal(head(features[:, :4]).attention[:, 0].sum((2, 3))[:, 2], torch.ones(200))
    assert torch.equal(head(features).attention[:, 0].sum((2, 3))[:, 2], torch.ones(200))


def test_consensus_of_frames_is_mean_pooling_in_testing_and_drops_by_frame_in_training() -> None:
    torch.manual_seed(0)
    mean = build_head(HeadConfig(C, CLASSES, kind="mean")).double()
    tsn = build_head(HeadConfig(C, CLASSES, kind="tsn")).double()
    tsn.load_state_dict(mean.state_dict())
    features = torch.randn(3, 4, 2, 2, C, dtype=torch.float64)
    torch.testing.assert_close(tsn.eval()(features).logits, mean.eval()(features).logits)
    logits = torch.stack([tsn.train()(features).logits for _ in range(200)])
    single = torch.stack([mean.train()(features).logits for _ in range(200)])
    assert (logits.std(0) < 0.8 * single.std(0)).all()  # four masks instead of one


@pytest.mark.parametrize("text", ["", "1,2", "1,2,0", "1,2,x", "1,2,inf", "more"])
def test_weights_of_glimpses_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError, match="accepted are equal, learned, or 3 numbers above 0"):
        HeadConfig(C, CLASSES, num_glimpses=3, glimpse_weights=text)
