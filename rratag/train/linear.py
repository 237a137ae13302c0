"""The baseline everything is compared with: logistic regression on mean-pooled features.

A video is the mean of its cached feature vectors over frames, views and positions; vectors are standardised by the
training videos; the strength of the penalty is chosen on the validation videos.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Logistic:
    """Logistic regression that validation videos chose: scikit-learn's pipeline, its C, and its accuracy there."""

    pipeline: Any
    strength: float
    validation_accuracy: float

    def decide(self, vectors: NDArray[np.float64], num_classes: int) -> NDArray[np.float64]:
        """Logits (B, num_classes); a class that had no training video has the lowest."""
        found = np.asarray(self.pipeline.decision_function(vectors), np.float64)
        if found.ndim == 1:  # two classes: the second one's logit against the first
            found = np.stack([-found / 2, found / 2], axis=1)
        logits = np.full((len(vectors), num_classes), found.min() - 1)
        logits[:, self.pipeline.classes_] = found
        return logits


def fit_logistic(
    vectors: NDArray[np.float64],
    labels: NDArray[np.int64],
    judged: NDArray[np.float64],
    judged_labels: NDArray[np.int64],
) -> Logistic:
    """Fit on `vectors` (B, C), choose C on `judged`; the smallest of equals."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    tried = []
    for strength in STRENGTHS:
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        pipeline.fit(vectors, labels)
        tried.append(Logistic(pipeline, strength, float(pipeline.score(judged, judged_labels))))
    return max(tried, key=lambda one: one.validation_accuracy)


def fit_linear(train: CachedDataset, validation: CachedDataset, test: CachedDataset) -> LinearResult:
    """Fit on `train`, choose C on `validation`, read `test` once."""
    found = fit_logistic(mean_vectors(train), train.labels, mean_vectors(validation), validation.labels)
    test_accuracy = float(found.pipeline.score(mean_vectors(test), test.labels))
    return LinearResult(found.strength, found.validation_accuracy, test_accuracy)
