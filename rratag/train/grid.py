"""Many heads over the same cached videos: the paper's tables on the user's own data.

In: a cache, labels, names of tables. Out: one result per head and seed, kept as soon as it is there, and figures with
their noise. A split belongs to a seed and is shared by all heads; epochs are chosen on validation videos and the test
videos are read once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rratag import files, sealed, untrusted
from rratag.data.datasets import CachedDataset
from rratag.errors import CacheError, StoppedError
from rratag.evaluate.bootstrap import group_names, paired_gain
from rratag.evaluate.metrics import figures, ranks
from rratag.features.spec import digest
from rratag.features.store import FeatureStore
from rratag.head.rra import HeadConfig
from rratag.head.scores import concatenation_scores, ensemble_scores, glimpse_scores
from rratag.head.variants import VARIANTS
from rratag.train.fit import MAPS_TYPE, TrainConfig, fit
from rratag.train.history import EpochRecord
from rratag.train.linear import fit_logistic, mean_vectors
from rratag.train.run import LabelOptions, TrainingData, load_training_data
from rratag.train.validate import all_logits
from rratag.video.augment import TrainingView

VALIDATION_SHARE, TEST_SHARE = 0.2, 0.2
MAX_RUN_BYTES = 2**28
LOGISTIC = "logistic"
"""Kind of the baseline without any head: logistic regression on mean features."""


@dataclass(frozen=True)
class Contender:
    """A head to train. `head` holds fields of `HeadConfig`; `paper` the paper's figure in percent, None without one."""

    name: str
    head: Mapping[str, Any]
    loss: str = "Li+Le"
    paper: float | None = None


BASE = Contender("RRA, 4 glimpses, Li+Le", {"num_glimpses": 4}, paper=83.42)
"""What the others are compared with."""

ONE_GLIMPSE = Contender("RRA, 1 glimpse", {"num_glimpses": 1}, paper=80.89)
ZERO = Contender("RRA, zero", {"num_glimpses": 4, **VARIANTS["zero"]})
PARALLEL = Contender("parallel glimpses", {"num_glimpses": 4, "kind": "parallel"}, paper=82.39)
MEAN_POOLING = Contender("mean pooling", {"kind": "mean"})
LOGISTIC_REGRESSION = Contender("logistic regression", {"kind": LOGISTIC})

_VARIANT_FIGURES = {
    "average": 80.20,
    "spatial": 81.97,
    "no-norm": 82.41,
    "no-relu": 83.15,
    "linear": 82.75,
    "neg-relu": 82.75,
}

TABLES: dict[str, tuple[Contender, ...]] = {
    # Table 3: mAP of the ensemble scores
    "losses": (
        *(
            Contender(loss, {"num_glimpses": 4}, loss, figure)
            for loss, figure in (
                ("Lc", 77.84),
                ("Le", 36.24),
                ("Lc+Le", 80.45),
                ("Lc+Li+Le", 82.59),
                ("Li", 82.97),
                ("Lc+Li", 82.80),
            )
        ),
        BASE,
    ),
    # Table 4, left
    "glimpses": (
        ONE_GLIMPSE,
        *(
            Contender(f"RRA, {K} glimpses", {"num_glimpses": K}, paper=figure)
            for K, figure in ((2, 82.14), (3, 82.12), (5, 82.94))
        ),
        BASE,
    ),
    # Table 4, right, and the controls that the paper does not have
    "variants": (
        *(
            Contender(f"RRA, {name}", {"num_glimpses": 4, **VARIANTS[name]}, paper=_VARIANT_FIGURES.get(name))
            for name in VARIANTS
            if name not in ("rra", "zero")
        ),
        ZERO,
        PARALLEL,
        Contender("parallel glimpses, no input_bn", {"num_glimpses": 4, "kind": "parallel", "input_bn": False}),
        Contender("RRA, no input_bn", {"num_glimpses": 4, "input_bn": False}),
        Contender("RRA, learned glimpse weights", {"num_glimpses": 4, "glimpse_weights": "learned"}),
        BASE,
    ),
    # Table 6, its rows for frozen features
    "baselines": (
        Contender("single frame", {"kind": "single-frame"}),
        Contender("TSN consensus", {"kind": "tsn"}),
        MEAN_POOLING,
        Contender("mean pooling, no input_bn", {"kind": "mean", "input_bn": False}),
        LOGISTIC_REGRESSION,
        Contender("attention clusters, Lc", {"kind": "clusters", "num_glimpses": 4}, "Lc"),
        BASE,
    ),
    # What must stand beside a claim that RRA helps: is it the attention, its repetition, or the reduction?
    "controls": (MEAN_POOLING, LOGISTIC_REGRESSION, ONE_GLIMPSE, ZERO, PARALLEL, BASE),
}
"""Tables by the name that ``--table`` takes. A new row is one entry here."""


@dataclass(frozen=True)
class Result:
    """One head and seed on the test videos of the seed's split.

    Attributes
    ----------
    videos, groups : ids of the test videos, and their groups ("" for none)
    ranks : of the true class by ensemble scores (Eq. 6), 0 for the first; one per video
    ranks_concatenation : by concatenation scores (Eq. 4)
    glimpse_accuracy : of each glimpse alone
    mean_average_precision : macro, by ensemble scores
    epoch : whose weights were kept, counted from 1; 0 where there are no epochs
    history : one row per epoch, as in ``history.csv`` but without its time; empty where there are no epochs
    """

    name: str
    seed: int
    videos: list[str]
    groups: list[str]
    ranks: list[int]
    ranks_concatenation: list[int]
    glimpse_accuracy: list[float]
    mean_average_precision: float
    epoch: int
    history: list[dict[str, float]]

    @property
    def top1(self) -> float:
        """Share of the test videos whose first tag is right."""
        return float(np.mean(np.array(self.ranks) == 0))

    @property
    def top1_concatenation(self) -> float:
        """The same by concatenation scores."""
        return float(np.mean(np.array(self.ranks_concatenation) == 0))


class Grid:
    """Trains contenders over seeds and keeps each result.

    Parameters
    ----------
    store, roots, labels : as for training; the labels' shares and seed are set here
    folder : where results are kept, one JSON file each; what is there already is not computed again
    config : how every contender is trained, but for its loss and seed
    views : training views that every head draws from; logistic regression takes the base alone
    modality : as for :func:`rratag.train.run.load_training_data`
    """

    def __init__(
        self,
        store: FeatureStore,
        roots: Sequence[Path],
        labels: LabelOptions,
        folder: Path,
        config: TrainConfig,
        views: Sequence[TrainingView] = (),
        modality: str | None = None,
    ) -> None:
        self.store, self.roots, self.labels, self.folder, self.config = store, roots, labels, folder, config
        self.views, self.modality = views, modality
        self._last: tuple[int, Split] | None = None

    def run(self, contenders: Sequence[Contender], seeds: Sequence[int]) -> Iterator[Result]:
        """Every contender with every seed; equal ones of several tables are trained once.

        Raises
        ------
        StoppedError
            If a result cannot be kept.
        """
        for seed, contender in product(seeds, contenders):
            result = self.kept(contender, seed)
            if result is None:
                split = self.split(seed)
                result = _trained(contender, split, replace(self.config, seed=seed, loss=contender.loss))
                keep_result(self._path(contender, split.data, seed), result)
            yield replace(result, name=contender.name)

    def kept(self, contender: Contender, seed: int) -> Result | None:
        """The result of a contender that is there already, under its name now."""
        found = kept_result(self._path(contender, self.split(seed).data, seed))
        return None if found is None else replace(found, name=contender.name)

    def split(self, seed: int) -> Split:
        """The split of a seed; the last one is at hand with what was read of it."""
        if self._last is None or self._last[0] != seed:
            self._last = seed, Split(self.data(seed))
        return self._last[1]

    def fresh(self) -> Grid:
        """The same without what it has read: for another process."""
        return Grid(self.store, self.roots, self.labels, self.folder, self.config, self.views, self.modality)

    def _path(self, contender: Contender, data: TrainingData, seed: int) -> Path:
        return self.path(data, seed, self._decides(contender, data))

    def data(self, seed: int) -> TrainingData:
        """Labelled videos in the split of `seed`."""
        labels = replace(self.labels, seed=seed, validation_split=VALIDATION_SHARE, test_split=TEST_SHARE)
        return load_training_data(self.store, self.roots, labels, self.modality, views=self.views)

    def path(self, data: TrainingData, seed: int, decides: Mapping[str, Any]) -> Path:
        """Where the result of one split is kept that these settings decide."""
        videos = [[one.video, one.key, one.label, one.group, one.split] for one in data.instances]
        return self.folder / f"{digest({**decides, 'seed': seed, 'videos': videos})[:16]}.json"

    def _decides(self, contender: Contender, data: TrainingData) -> dict[str, Any]:
        decides: dict[str, Any] = {
            "head": dict(contender.head),
            "loss": contender.loss,
            "training": asdict(self.config) | {"maps": str(MAPS_TYPE)},
            "features": data.spec.meaning_digest,
        }
        if self.views:
            decides["views"] = [view.describe() for view in self.views]
        return decides


class Split:
    """The parts of one seed's split, read once for all contenders.

    Raises
    ------
    CacheError
        If no video is left for the test.
    """

    def __init__(self, data: TrainingData) -> None:
        self.data = data
        self.train, self.validation, self.test = (data.part(name) for name in ("train", "validation", "test"))
        if not len(self.test):
            raise CacheError("no video is left to test on; label more, or give fewer groups")

    @cached_property
    def vectors(self) -> tuple[NDArray[np.float64], ...]:
        """Mean features of the three parts."""
        return mean_vectors(self.train), mean_vectors(self.validation), mean_vectors(self.test)


def _trained(contender: Contender, split: Split, config: TrainConfig) -> Result:
    if contender.head.get("kind") == LOGISTIC:
        logits, epoch, history = _logistic(split), 0, []
        weights = torch.ones(1)
    else:
        head_config = HeadConfig(split.data.spec.meaning["channels"], len(split.data.class_names), **contender.head)
        found = fit(head_config, split.train, split.validation, config)
        logits, weights = all_logits(found.head, split.test, torch.device("cpu"))
        epoch, history = found.best_epoch, [_without_time(record) for record in found.history]
    return judged(contender.name, config.seed, split.test, logits, weights, epoch, history)


def judged(
    name: str,
    seed: int,
    test: CachedDataset,
    logits: Tensor,
    weights: Tensor,
    epoch: int,
    history: list[dict[str, float]],
) -> Result:
    """Result from logits (B, V, K, num_classes) of the test videos and glimpse weights (K,)."""
    by_view = logits.flatten(0, 1).double()
    B, V = logits.shape[:2]

    def over_views(scores: Tensor) -> NDArray[np.float64]:
        return scores.reshape(B, V, *scores.shape[1:]).mean(1).numpy()

    ensemble = over_views(ensemble_scores(by_view, weights))
    glimpses = over_views(glimpse_scores(by_view))
    labels = test.labels
    return Result(
        name,
        seed,
        [one.video for one in test.instances],
        [one.group for one in test.instances],
        ranks(ensemble, labels).tolist(),
        ranks(over_views(concatenation_scores(by_view)), labels).tolist(),
        [float((ranks(glimpses[:, k], labels) == 0).mean()) for k in range(glimpses.shape[1])],
        figures(ensemble, labels)["mean_average_precision"],
        epoch,
        history,
    )


def _without_time(record: EpochRecord) -> dict[str, float]:
    """A row that is the same whenever it is made."""
    return {name: value for name, value in record.to_json().items() if name != "seconds"}


def _logistic(split: Split) -> Tensor:
    """Logits (B, 1, 1, num_classes) of logistic regression on the mean features of the test videos."""
    train, validation, test = split.vectors
    scores = fit_logistic(train, split.train.labels, validation, split.validation.labels).decide(
        test, len(split.data.class_names)
    )
    return torch.from_numpy(scores)[:, None, None]


def kept_result(path: Path) -> Result | None:
    """A result that is there already; None if there is none, or it is damaged."""
    try:
        content = untrusted.read_bytes(path, MAX_RUN_BYTES)
        found = untrusted.parse_json(content)
        if not sealed.is_whole(content):
            return None
        return Result(**{name: value for name, value in found.items() if name != sealed.FIELD})
    except (OSError, ValueError, TypeError):
        return None


def keep_result(path: Path, result: Result) -> None:
    """Write a result, all of it or nothing.

    Raises
    ------
    StoppedError
        If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, sealed.to_bytes(asdict(result)))
    except OSError as error:
        raise StoppedError(f"{path}: cannot be written ({error.strerror}); finished results are kept") from error


@dataclass(frozen=True)
class Row:
    """One line of a table: figures in [0, 1], means over the seeds and their standard deviation.

    `difference` is the top-1 accuracy less that of the base on the same videos, `low` and `high` bound its 95 %
    interval by resampling test groups; None for the base itself.
    """

    name: str
    paper: float | None
    num_seeds: int
    num_videos: int
    top1: float
    top1_spread: float
    top1_concatenation: float
    mean_average_precision: float
    glimpse_accuracy: list[float]
    difference: float | None
    low: float | None
    high: float | None

    @property
    def within_noise(self) -> bool:
        """Whether the difference might as well be none."""
        return self.low is not None and self.high is not None and self.low <= 0 <= self.high


def rows(contenders: Sequence[Contender], results: Sequence[Result]) -> list[Row]:
    """Lines of a table, in the order of `contenders`; all of them have results of the same seeds."""
    by_name = {one.name: [found for found in results if found.name == one.name] for one in contenders}
    base = by_name.get(BASE.name, [])
    return [_row(one, by_name[one.name], base if one is not BASE else []) for one in contenders]


def _row(contender: Contender, found: Sequence[Result], base: Sequence[Result]) -> Row:
    top1 = np.array([one.top1 for one in found])
    difference = low = high = None
    if base:
        difference, low, high = paired_difference(found, base)
    return Row(
        contender.name,
        contender.paper,
        len(found),
        sum(len(one.videos) for one in found),
        float(top1.mean()),
        float(top1.std(ddof=1)) if len(top1) > 1 else 0.0,
        float(np.mean([one.top1_concatenation for one in found])),
        float(np.mean([one.mean_average_precision for one in found])),
        np.mean([one.glimpse_accuracy for one in found], axis=0).tolist(),
        difference,
        low,
        high,
    )


def paired_difference(found: Sequence[Result], base: Sequence[Result]) -> tuple[float, float, float]:
    """Mean difference of top-1 accuracy over seeds, and its 95 % interval by a paired bootstrap over test groups.

    Parameters
    ----------
    found, base : of the same seeds, in the same order; a video without a group is one of its own

    Raises
    ------
    ValueError
        If the two are not of the same videos.
    """
    for one, other in zip(found, base, strict=True):
        if one.seed != other.seed or one.videos != other.videos:
            raise ValueError(f"results of other videos: seeds {one.seed} and {other.seed}")
    return paired_gain(
        [_right(one) - _right(other) for one, other in zip(found, base, strict=True)],
        [group_names(one.groups, one.videos) for one in found],
    )


def _right(result: Result) -> NDArray[np.float64]:
    """1 where the first tag is the true one."""
    return np.asarray(np.array(result.ranks) == 0, np.float64)


def distinct(tables: Sequence[str]) -> list[Contender]:
    """Contenders of several tables, each once, in order."""
    return list({one.name: one for name in tables for one in TABLES[name]}.values())
