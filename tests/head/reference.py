"""The head by loops over videos, positions and channels, straight from Eq. 1-6, in Python floats. Slow on purpose."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

EPS = 1e-5


def positions(mask: np.ndarray) -> list[tuple[int, int, int]]:
    """(frame, row, column) of each real position of one video, mask (N, h, w)."""
    return [tuple(place) for place in np.argwhere(mask).tolist()]


def attention(
    x: dict[tuple[int, int, int], np.ndarray], query: np.ndarray, kind: str
) -> dict[tuple[int, int, int], float]:
    """Weight of each position of one video (Eq. 1)."""
    if kind == "mean":
        return {place: 1 / len(x) for place in x}
    logits = {
        place: sum(float(a) * float(b) for a, b in zip(vector, query, strict=True)) for place, vector in x.items()
    }
    if kind == "spatiotemporal":
        total = sum(math.exp(value) for value in logits.values())
        return {place: math.exp(value) / total for place, value in logits.items()}
    frames = sorted({place[0] for place in x})
    weights = {}
    for frame in frames:
        inside = {place: value for place, value in logits.items() if place[0] == frame}
        total = sum(math.exp(value) for value in inside.values())
        weights |= {place: math.exp(value) / total / len(frames) for place, value in inside.items()}
    return weights


def summary(x: dict[tuple[int, int, int], np.ndarray], weights: dict[tuple[int, int, int], float]) -> np.ndarray:
    """x-hat of one video (Eq. 1)."""
    return sum(weights[place] * vector for place, vector in x.items())


def statistics(videos: list[dict[tuple[int, int, int], np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance per channel over videos, frames and positions."""
    vectors = [vector for x in videos for vector in x.values()]
    mean = sum(vectors) / len(vectors)
    return mean, sum((vector - mean) ** 2 for vector in vectors) / len(vectors)


def block(
    videos: list[dict[tuple[int, int, int], np.ndarray]],
    reductions: list[np.ndarray],
    state: dict[str, np.ndarray],
    prefix: str,
    *,
    norm: bool,
    relu: bool,
    training: bool,
) -> list[dict[tuple[int, int, int], np.ndarray]]:
    """ReLU(BatchNorm(X (+) x-tilde)) (Eq. 2)."""
    added = [
        {place: vector + reduction for place, vector in x.items()}
        for x, reduction in zip(videos, reductions, strict=True)
    ]
    if norm:
        mean, var = (
            statistics(added)
            if training
            else (state[f"{prefix}.norm.running_mean"], state[f"{prefix}.norm.running_var"])
        )
        gamma, beta = state[f"{prefix}.norm.weight"], state[f"{prefix}.norm.bias"]
        added = [{p: (v - mean) / np.sqrt(var + EPS) * gamma + beta for p, v in x.items()} for x in added]
    if relu:
        added = [{place: np.maximum(vector, 0) for place, vector in x.items()} for x in added]
    return added


def head(config: Any, state: dict[str, np.ndarray], features: np.ndarray, mask: np.ndarray, *, training: bool) -> Any:
    """Logits (B, K, classes), attention (B, K, N, h, w), summaries (B, K, C), glimpse weights (K,), without dropout.

    A single frame is the middle one, as in testing.
    """
    B, N, h, w, C = features.shape
    K = config.num_glimpses
    x = [{place: features[b][place] for place in positions(mask[b])} for b in range(B)]
    if config.kind == "single-frame":
        middles = [sorted({place[0] for place in one}) for one in x]
        middles = [frames[len(frames) // 2] for frames in middles]
        x = [{p: v for p, v in one.items() if p[0] == middle} for one, middle in zip(x, middles, strict=True)]
    if config.input_bn:
        x = block(x, [np.zeros(C)] * B, state, "first", norm=True, relu=True, training=training)
    original = x
    logits, weights_out = np.zeros((B, K, config.num_classes)), np.zeros((B, K, N, h, w))
    summaries = np.zeros((B, K, C))
    for k in range(K):
        if config.kind == "rra" and k > 0:
            tilde = [reduction(config, state, k - 1, summaries[b, k - 1]) for b in range(B)]
            source = x if config.map == "chained" else original
            x = block(source, tilde, state, f"later.{k - 1}", norm=config.norm, relu=config.relu, training=training)
        for b in range(B):
            name, row = ("first.queries", k) if config.kind in ("parallel", "clusters") else ("first.queries", 0)
            if config.kind == "rra" and k > 0:
                name = f"later.{k - 1}.queries"
            query = state[name][row] if config.attention != "mean" else np.zeros(C)
            weights = attention(x[b], query, config.attention)
            for place, value in weights.items():
                weights_out[(b, k, *place)] = value
            summaries[b, k] = summary(x[b], weights)
            if config.kind == "clusters":
                shifted = state["alpha"][k] * summaries[b, k] + state["beta"][k]
                summaries[b, k] = shifted / math.sqrt(sum(float(v) ** 2 for v in shifted)) / math.sqrt(K)
            logits[b, k] = state[f"classifiers.{k}.weight"] @ summaries[b, k] + state[f"classifiers.{k}.bias"]
    return logits, weights_out, summaries, np.array(glimpse_weights(config.glimpse_weights, K, state))


def glimpse_weights(text: str, K: int, state: dict[str, np.ndarray]) -> list[float]:
    """Importance of each glimpse, summing to 1."""
    if text == "equal":
        return [1 / K] * K
    raw = (
        [math.exp(float(v)) for v in state["importance"]] if text == "learned" else [float(v) for v in text.split(",")]
    )
    return [one / sum(raw) for one in raw]


def reduction(config: Any, state: dict[str, np.ndarray], k: int, x_hat: np.ndarray) -> np.ndarray:
    """x-tilde from x-hat."""
    if config.reduction == "zero":
        return np.zeros_like(x_hat)
    z = state[f"fc.{k}.weight"] @ x_hat + state[f"fc.{k}.bias"]
    return {"tanh": np.tanh(z), "linear": z, "neg-relu": -np.maximum(z, 0)}[config.reduction]
