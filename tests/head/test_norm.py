"""MaskedBatchNorm: statistics without looking at the map again, running statistics, their recomputation."""

from __future__ import annotations

import torch
from torch import nn

from rratag.head.onepass import Layout, Maps
from rratag.head.rra import HeadConfig, MaskedBatchNorm, recomputed_statistics
from rratag.head.variants import build_head

B, P, C = 3, 6, 4


def make_maps(seed: int) -> Maps:
    x = torch.randn(B, P, C, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 + 1
    layout = Layout(1, None, torch.full((B, 1), float(P), dtype=torch.float64))
    return Maps(x, x.mean(1), x.var(1, correction=0), layout)


def test_scale_and_shift_are_batch_norm_of_the_sum() -> None:
    ours, theirs = MaskedBatchNorm(C).double(), nn.BatchNorm1d(C, momentum=None).double()
    with torch.no_grad():
        theirs.weight.copy_(torch.randn(C))
        theirs.bias.copy_(torch.randn(C))
        ours.weight.copy_(theirs.weight)
        ours.bias.copy_(theirs.bias)
    reduction = torch.randn(B, C, dtype=torch.float64)
    for training in (True, True, False):  # momentum=None is the plain average, which ours starts with
        for norm in (ours, theirs):
            norm.train(training)
        maps = make_maps(seed=int(training))
        scale, shift = ours(maps, reduction)
        wanted = theirs((maps.values + reduction[:, None]).flatten(0, 1)).unflatten(0, (B, P))
        torch.testing.assert_close(maps.values * scale + shift[:, None], wanted)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_running_statistics_become_exponential() -> None:
    norm = MaskedBatchNorm(C, momentum=0.4).double().train()
    mean = torch.zeros(C, dtype=torch.float64)
    for step, momentum in enumerate([1, 1 / 2, 0.4, 0.4]):
        maps = make_maps(seed=step)
        norm(maps, None)
        mean = (1 - momentum) * mean + momentum * maps.values.mean((0, 1))
        torch.testing.assert_close(norm.running_mean, mean)


def test_recomputed_statistics_are_those_of_all_positions() -> None:
    torch.manual_seed(0)
    head = build_head(HeadConfig(C, 2, num_glimpses=2)).double().train()
    first = torch.randn(2, 3, 2, 2, C, dtype=torch.float64)
    second = torch.randn(5, 1, 2, 3, C, dtype=torch.float64) + 3
    before = head.first.norm.num_batches.clone()
    with torch.no_grad(), recomputed_statistics(head):
        head(first)
        head(second)
    everything = torch.cat([first.flatten(0, 3), second.flatten(0, 3)])
    torch.testing.assert_close(head.first.norm.running_mean, everything.mean(0))
    torch.testing.assert_close(head.first.norm.running_var, everything.var(0, correction=0))
    assert head.first.norm.num_batches == before
    head(first)  # and afterwards the running statistics move again
    assert head.first.norm.num_batches == before + 1
    assert not torch.allclose(head.first.norm.running_mean, everything.mean(0))


def test_recomputing_without_data_changes_nothing() -> None:
    head = build_head(HeadConfig(C, 2))
    with recomputed_statistics(head):
        pass
    assert torch.equal(head.first.norm.running_var, torch.ones(C))
