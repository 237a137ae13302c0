"""HeadConfig: what it accepts, and its way through JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rratag.errors import UsageError
from rratag.head.rra import ATTENTIONS, MAPS, REDUCTIONS, HeadConfig
from rratag.head.variants import HEADS, build_head

configs = st.builds(
    HeadConfig,
    channels=st.integers(1, 4096),
    num_classes=st.integers(2, 500),
    kind=st.sampled_from(sorted(HEADS)),
    num_glimpses=st.integers(1, 64),
    dropout=st.floats(0, 1, exclude_max=True),
    input_bn=st.booleans(),
    attention=st.sampled_from(ATTENTIONS),
    norm=st.booleans(),
    relu=st.booleans(),
    reduction=st.sampled_from(sorted(REDUCTIONS)),
    map=st.sampled_from(MAPS),
)


@settings(deadline=None, max_examples=50)
@given(configs)
def test_json_round_trip(config: HeadConfig) -> None:
    assert HeadConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_mean_pooling_has_one_glimpse_and_equal_weights() -> None:
    config = HeadConfig(8, 3, kind="mean", num_glimpses=4)
    assert (config.num_glimpses, config.attention) == (1, "mean")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention": "temporal"}, "unknown attention 'temporal'; choose from spatiotemporal, spatial, mean"),
        ({"reduction": "relu"}, "unknown reduction 'relu'; choose from tanh, linear, neg-relu, zero"),
        ({"map": "x"}, "unknown map 'x'; choose from chained, original"),
        ({"num_glimpses": 0}, "num_glimpses is 0; it must be from 1 to 64"),
        ({"num_glimpses": 65}, "num_glimpses is 65"),
        ({"num_classes": 1}, "num_classes is 1"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be at least 0 and below 1"),
        ({"dropout": float("nan")}, "dropout is nan"),
    ],
)
def test_what_is_not_accepted_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        HeadConfig(**{"channels": 4, "num_classes": 3, **change})  # type: ignore[arg-type]


def test_unknown_kind_names_the_known() -> None:
    with pytest.raises(UsageError, match="unknown head 'rr'; choose from rra, parallel, mean"):
        build_head(HeadConfig(4, 3, kind="rr"))


@pytest.mark.parametrize(
    "change",
    [{"channels": "8"}, {"channels": True}, {"dropout": True}, {"input_bn": 1}, {"kind": None}, {"more": 1}, None],
)
def test_malformed_json_is_a_value_error(change: dict[str, object] | None) -> None:
    data = None if change is None else {**HeadConfig(8, 3).to_json(), **change}
    with pytest.raises(ValueError, match=r"fields|is "):
        HeadConfig.from_json(data)


def test_a_missing_field_is_a_value_error() -> None:
    data = HeadConfig(8, 3).to_json()
    del data["norm"]
    with pytest.raises(ValueError, match="a head has the fields channels"):
        HeadConfig.from_json(data)
