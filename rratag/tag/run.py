"""Tag a folder: extract what is missing, then run the head over the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rratag import config
from rratag.errors import ModelError, UsageError
from rratag.features.catalog import Entry
from rratag.features.extract import Extraction, RunOptions
from rratag.features.request import Request
from rratag.features.spec import differences
from rratag.features.store import Features, FeatureStore
from rratag.features.stream import Streaming
from rratag.records import Receipt
from rratag.video.discover import Discovery, discover
from rratag.video.plan import Sampling, chosen_frames

if TYPE_CHECKING:
    from rratag.model import Model
    from rratag.tag.predict import Prediction

TEST_FIELDS = frozenset({"crops", "resize", "sampling"})
"""What of a meaning ``predict --frames/--fps/--crops`` may change: how a video is looked at, not what a feature is."""


@dataclass(frozen=True, slots=True)
class Override:
    """Test sampling and view other than the model's own; None keeps the model's.

    Of the frames that the sampling gives, the head sees those at the middles of `test_frames` equal slices.
    """

    sampling: Sampling | None = None
    crops: str | None = None
    test_frames: int | None = None


class Tagging:
    """One prediction run over one root.

    Parameters
    ----------
    model : or several that take the same features, so that each video is decoded once
    request : the model's own, possibly with other weights file, decoder, device; see `model_request`
    crop_fusion : how several views a frame become one score; see `rratag.tag.predict`

    Raises
    ------
    ModelError
        If the features that `request` leads to do not mean what the model was trained on.
    UsageError
        If `test_frames` shall be chosen of frames that are not cached.

    Notes
    -----
    Views other than the model's own are many and wanted once: their features stream through the head and are not
    cached. What waits for `predictions` then are the scores of each video.
    """

    def __init__(
        self,
        model: Model | Sequence[Model],
        discovery: Discovery,
        request: Request,
        store: FeatureStore,
        options: RunOptions,
        override: Override | None = None,
        crop_fusion: str = "mean",
    ) -> None:
        self.models = list(model) if isinstance(model, Sequence) else [model]
        self.model = model = self.models[0]
        self.crop_fusion = crop_fusion
        self._streamed: dict[str, list[Prediction]] = {}
        override = override or Override()
        changed = replace(
            request,
            sampling=override.sampling or request.sampling,
            crops=override.crops or request.crops,
        )
        free = TEST_FIELDS if changed != request else frozenset()

        def check(meaning: dict[str, object]) -> None:
            wrong = differences(
                {name: value for name, value in model.meaning.items() if name not in free},
                {name: value for name, value in meaning.items() if name not in free},
            )
            if wrong:
                raise ModelError(
                    f"the features of this run are not what the model was trained on ({'; '.join(wrong)});"
                    " give the same --weights, or train again"
                )

        kind = Extraction if changed.crops == request.crops else Streaming
        self.test_frames = override.test_frames
        if self.test_frames is not None and kind is Streaming:
            raise UsageError(
                f"--test-frames chooses of cached frames, and features of --crops {changed.crops} are not cached; give"
                f" --frames {self.test_frames}"
            )
        self.extraction = kind(
            discovery,
            changed,
            store,
            options,
            command="predict",
            meaning=None if free else model.meaning,
            check=check,
        )

    @property
    def streams(self) -> bool:
        """Whether features are used once and not cached."""
        return isinstance(self.extraction, Streaming)

    def extract(self) -> Iterator[Receipt]:
        """Make sure that every video's features are there, or were tagged: one receipt per candidate."""
        if not isinstance(self.extraction, Streaming):
            yield from self.extraction.run()
            return
        for entry, features in self.extraction.stream():
            if features is not None:
                self._streamed[entry.id] = self._tagged(entry, features)
            yield entry.receipt

    def _tagged(self, entry: Entry, features: Features) -> list[Prediction]:
        from rratag.tag.predict import predict_features

        meaning = self.extraction.stores[0].spec.meaning
        return [predict_features(model, meaning, entry.receipt, features, self.crop_fusion) for model in self.models]

    def predictions(self, number: int = 0, *, keep_cells: bool = False) -> Iterator[Prediction | Receipt]:
        """Tag what `extract` found, sorted by id: one result per candidate, by the model of this number.

        A video whose cached features are damaged is extracted again on the way, so its receipt may be another.
        """
        from rratag.tag.predict import predict_cached

        entries = self.entries()
        cached = predict_cached(
            self.models[number],
            self.extraction.stores,
            (entry for entry in entries if not self._is_streamed(entry)),
            self.extraction.again,
            self.crop_fusion,
            None if self.test_frames is None else partial(chosen_frames, most=self.test_frames),
            keep_cells=keep_cells,
        )
        for entry in entries:
            yield self._streamed[entry.id][number] if self._is_streamed(entry) else next(cached)
        self.extraction.finish()

    def _is_streamed(self, entry: Entry) -> bool:
        return entry.receipt.usable and entry.id in self._streamed

    def entries(self) -> Sequence[Entry]:
        """Candidates of the run, sorted by id."""
        return sorted(self.extraction.entries, key=lambda entry: entry.id)


def model_request(
    model: Model,
    *,
    weights: str | None = None,
    decoder: str = config.DECODER,
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "auto",
) -> Request:
    """How the features of `model` are extracted again.

    Raises
    ------
    ModelError
        If the weights file that the model names has gone, or the model does not say how its features are made.
    """
    try:
        own = Request.from_recipe(model.spec_request)
    except (KeyError, TypeError) as error:
        raise ModelError(f"the model does not say how its features are made ({error}); train again") from error
    weights = weights or own.weights
    if weights and weights != "random" and not Path(weights).is_file():
        raise ModelError(f"{weights}: the backbone weights this model was trained with have gone; give --weights FILE")
    return replace(own, weights=weights, decoder=decoder, device=device, precision=precision, runtime=runtime)


def tag_videos(
    paths: Iterable[str | Path] | str | Path,
    model: Model | str | Path | None = None,
    *,
    cache: str | Path = config.CACHE_DIR,
    workers: int = 2,
    on_receipt: Callable[[Receipt], None] | None = None,
) -> Iterator[Prediction | Receipt]:
    """Tag videos from Python.

    Parameters
    ----------
    paths : folders, files or glob patterns
    model : a loaded model, its folder, or None for the one trained last
    on_receipt : called once for each video as soon as its features are there or it failed

    Returns
    -------
    One result per video, sorted by id: a `Prediction`, or the receipt of a video that has no features.

    Raises
    ------
    RratagError
        For anything a user can mend: no video found, no model, weights missing.

    Examples
    --------
    >>> for result in rratag.tag_videos("clips"):  # doctest: +SKIP
    ...     print(result.video, result.class_names[result.ranking()[0]])
    """
    from rratag.model import Model, load_model

    if not isinstance(model, Model):
        model = load_model(Path(model) if model is not None else config.MODELS_DIR / config.MODEL_NAME)
    inputs = [paths] if isinstance(paths, (str, Path)) else list(paths)
    run = Tagging(
        model,
        discover([str(path) for path in inputs]),
        model_request(model),
        FeatureStore(Path(cache).expanduser().absolute()),
        RunOptions(workers),
    )
    for receipt in run.extract():
        if on_receipt is not None:
            on_receipt(receipt)
    yield from run.predictions()
