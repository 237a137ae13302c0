"""The baseline everything is compared with: logistic regression on mean-pooled features.

A video is the mean of its cached feature vectors over frames, views and positions; vectors are standardised by the
training videos; the strength of the penalty is chosen on the validation videos.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rratag.data.datasets import CachedDataset

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Tried values of scikit-learn's C, the inverse of the penalty."""


@dataclass(frozen=True, slots=True)
class LinearResult:
    """Accuracies in [0, 1] and the C that validation chose (the smallest of equals)."""

    strength: float
    validation_accuracy: float
    test_accuracy: float


def mean_vectors(data: CachedDataset) -> NDArray[np.float64]:
    """Mean feature vector of every video, of shape (len(data), C)."""
    rows = []
    for index, instance in enumerate(data.instances):
        maps = data.store.read(instance.key, data.frames(index).tolist()).maps
        rows.append(maps.reshape(-1, maps.shape[-1]).mean(0, dtype=np.float64))
    return np.stack(rows)


def fit_linear(train: CachedDataset, validation: CachedDataset, test: CachedDataset) -> LinearResult:
    """Fit on `train`, choose C on `validation`, read `test` once."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    vectors = mean_vectors(train)
    judged = mean_vectors(validation)
    best: tuple[float, float] | None = None
    chosen = None
    for strength in STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        model.fit(vectors, train.labels)
        accuracy = float(model.score(judged, validation.labels))
        if best is None or accuracy > best[0]:
            best, chosen = (accuracy, strength), model
    assert best is not None
    assert chosen is not None
    return LinearResult(best[1], best[0], float(chosen.score(mean_vectors(test), test.labels)))
