"""Groups side by side: same results, same order, and nothing left changed behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
import torch

from rratag.head import onepass
from rratag.head.losses import parse_loss
from rratag.head.parallel import each_group, threads_for_groups
from rratag.head.rra import HeadConfig
from rratag.head.variants import build_head

GROUPS = [slice(start, start + 1) for start in range(12)]


@pytest.fixture(params=[1, 3], autouse=True)
def num_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_are_in_order_and_without_gradients(num_threads: int) -> None:
    x = torch.arange(12.0, requires_grad=True)
    found = each_group(lambda rows: x[rows] * 2, GROUPS)
    assert torch.cat(found).tolist() == [2.0 * number for number in range(12)]
    assert not any(one.requires_grad for one in found)
    assert torch.is_grad_enabled()


def test_inference_mode_reaches_the_threads() -> None:
    with torch.inference_mode():
        assert all(each_group(lambda rows: torch.zeros(1).is_inference(), GROUPS))
    assert not any(each_group(lambda rows: torch.zeros(1).is_inference(), GROUPS))


def test_each_thread_computes_alone_and_others_are_left_as_they_are(num_threads: int) -> None:
    inside = each_group(lambda rows: torch.get_num_threads(), GROUPS)
    assert set(inside) == {1}
    assert torch.get_num_threads() == num_threads
    elsewhere: list[int] = []
    thread = threading.Thread(target=lambda: elsewhere.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert elsewhere == [num_threads]


def test_threads_can_be_kept_for_groups(num_threads: int) -> None:
    with threads_for_groups():
        assert torch.get_num_threads() == 1
        names = each_group(lambda rows: threading.current_thread().name, GROUPS)
        assert all(name.startswith("rratag-head") == (num_threads > 1) for name in names)
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == num_threads


def test_errors_reach_the_caller() -> None:
    def work(rows: slice) -> None:
        if rows.start == 7:
            raise ValueError("group 7")

    with pytest.raises(ValueError, match="group 7"):
        each_group(work, GROUPS)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own() -> None:
    each_group(lambda rows: None, GROUPS)
    child = os.fork()
    if child == 0:
        os._exit(len(each_group(lambda rows: rows.start, GROUPS)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 12


def test_training_does_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onepass, "_CACHED_ELEMENTS", 1)
    torch.manual_seed(0)
    head = build_head(HeadConfig(16, 3, dropout=0)).train()
    x = torch.rand(6, 2, 3, 3, 16)

    def gradients() -> list[torch.Tensor]:
        head.zero_grad()
        parse_loss("Li+Le")(head(x).logits, torch.arange(6) % 3).backward()
        return [value.grad.clone() for value in head.parameters()]

    found = gradients()
    torch.set_num_threads(1)
    assert all(torch.equal(one, other) for one, other in zip(found, gradients(), strict=True))
