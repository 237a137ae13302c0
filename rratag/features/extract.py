"""From a discovery to a cache that holds its features: what is known, what is to be done, and what is kept of it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rratag.errors import RratagError, StoppedError, UsageError
from rratag.features import flow_cost
from rratag.features.catalog import Catalog, Entry, Listing
from rratag.features.parts import parts_of
from rratag.features.pipeline import Job, Pipeline
from rratag.features.plan import RETRIED, Plan, make_plan, open_stores, receipt_of
from rratag.features.request import Request
from rratag.features.spec import digest
from rratag.features.store import KEY_DIGITS, Features, FeatureStore, SpecStore, file_image
from rratag.records import FLOW, Receipt
from rratag.video.augment import TrainingView
from rratag.video.discover import Discovery
from rratag.video.flow import check_opencv
from rratag.video.pool import Decoded

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from rratag.features.backbones import Backbone
    from rratag.features.compiled import Compiled

logger = logging.getLogger(__name__)

PART_SECONDS = 20.0
"""How often the listing of an unfinished run is kept, so that its digests are not computed again."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run, which never changes a feature's meaning. `workers` decode processes; `batch_size` images."""

    workers: int
    batch_size: int = 16
    compression: str = "zstd"
    overwrite: bool = False
    retry_failed: bool = False
    download: bool = False
    deadline_s: float | None = None


@dataclass
class Network:
    """A backbone on its device."""

    backbone: Backbone
    device: torch.device
    precision: str
    compiled: Compiled | None = None

    @property
    def runtime(self) -> str:
        """What computes: "torch" or "openvino"."""
        return "torch" if self.compiled is None else "openvino"

    def maps(self, images: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Feature maps, token-first.

        Parameters
        ----------
        images : of shape (B, H, W, 3), or 10 for optical flow

        Returns
        -------
        Of shape (B, h, w, C).

        Raises
        ------
        StoppedError
            If a value is not finite in float16, or the memory does not suffice.
        """
        import torch

        try:
            with torch.inference_mode():
                if self.compiled is not None:
                    stored = self.compiled.maps(images)
                else:
                    maps = self.backbone.features(torch.from_numpy(images))
                    stored = maps.permute(0, 2, 3, 1).to(torch.float16).contiguous().cpu().numpy()
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "allocate memory" not in str(error):
                raise
            raise StoppedError(
                f"not enough memory for {len(images)} images of {images.shape[2]}x{images.shape[1]};"
                " give a smaller --batch-size or --input-size"
            ) from error
        if not np.isfinite(stored).all():
            way_out = "use other weights" if self.precision == "fp32" else "use --precision fp32 or other weights"
            raise StoppedError(
                f"--backbone {self.backbone.name} in {self.precision} gives values that float16 cannot hold; {way_out}"
            )
        return stored


def load_network(request: Request, *, download: bool = False) -> Network:
    """The backbone of `request` on its device.

    Raises
    ------
    UsageError
        If CUDA or OpenVINO is asked for and not there, or half precision without CUDA, or optical flow without OpenCV.
    """
    if request.modality == FLOW:
        check_opencv()
    import torch

    from rratag.features import backbones, compiled

    has_cuda = torch.cuda.is_available()
    if request.device == "cuda" and not has_cuda:
        raise UsageError("--device cuda: no usable GPU here; use --device auto or cpu")
    device = torch.device("cuda" if has_cuda and request.device != "cpu" else "cpu")
    precision = request.precision
    if precision == "auto":
        precision = "fp16" if device.type == "cuda" else "fp32"
    backbone = backbones.load(
        request.backbone,
        weights=request.weights,
        input_size=request.input_size,
        download=download,
        modality=request.modality,
    )
    if _by_openvino(request.runtime, device.type, precision):
        return Network(backbone, device, precision, compiled.Compiled(backbone, precision))
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    return Network(backbone.to(device, dtype), device, precision)


def _by_openvino(runtime: str, device: str, precision: str) -> bool:
    """Whether OpenVINO computes.

    Raises
    ------
    UsageError
        If it is asked for and cannot.
    """
    from rratag.features import compiled

    fits = device == "cpu" and precision in compiled.HINTS
    if runtime == "auto":
        return fits and compiled.is_installed()
    if runtime == "openvino" and not compiled.is_installed():
        raise UsageError("--runtime openvino: OpenVINO is not installed; pip install 'rratag[openvino]', or give torch")
    if runtime == "openvino" and not fits:
        raise UsageError(
            f"--runtime openvino computes with --device cpu and --precision {' or '.join(compiled.HINTS)}, not with"
            f" {device} and {precision}; give these, or --runtime torch"
        )
    return runtime == "openvino"


class Extraction:
    """One run over one root: know what is there, compute what is missing, keep the listing.

    Parameters
    ----------
    command : "extract" or "predict", whose listing is written
    meaning : what features must mean; any cached ones of this meaning serve, however they were computed.
        None takes whatever `request` leads to
    check : called with the meaning that `request` leads to, once the network is loaded; raises if it will not do
    views : training views to cache beside the base, each in a spec of its own

    Notes
    -----
    The network is loaded only if a video must be decoded, or if this request was never seen before.
    """

    def __init__(
        self,
        discovery: Discovery,
        request: Request,
        store: FeatureStore,
        options: RunOptions,
        *,
        command: str = "extract",
        meaning: dict[str, Any] | None = None,
        check: Callable[[dict[str, Any]], None] = lambda meaning: None,
        views: Sequence[TrainingView] = (),
    ) -> None:
        self.discovery, self.request, self.store, self.options = discovery, request, store, options
        self.command, self.check, self.views = command, check, views
        self.catalog = Catalog(store.cache)
        self._network: Network | None = None
        self._healed = False
        self._memo: dict[str, Any] = dict(request.marks())  # until it is known which spec the request leads to
        self.stores: list[SpecStore] = []
        self.stores += self._known_stores() if meaning is None else store.with_meaning(digest(meaning))
        if not self.stores:
            self._open_store()
        self.check(self.stores[0].spec.meaning)
        self.parts = parts_of(store, self.stores, views)
        self.plan = self._make_plan()
        self.entries = [*self.plan.unseen, *self.plan.done]

    def _known_stores(self) -> list[SpecStore]:
        for listing in self.catalog.all():
            if self.request.made(listing.request) and (stores := open_stores(self.store, listing.spec)):
                self._memo = listing.request
                return stores
        return []

    def _make_plan(self) -> Plan:
        if self.options.overwrite:
            return Plan(self.discovery, [], list(self.discovery.videos))
        return make_plan(self.discovery, self.parts, self.catalog, retry_failed=self.options.retry_failed)

    @property
    def network(self) -> Network:
        """The backbone, loaded on first use."""
        if self._network is None:
            self._network = load_network(self.request, download=self.options.download)
        return self._network

    def _open_store(self) -> None:
        """Put the spec that new features go to first."""
        spec = self.request.spec(self.network.backbone, self.network.precision, self.network.runtime)
        self.check(spec.meaning)
        own = SpecStore(self.store.cache / spec.short, spec)  # its folder is made when there is something to put there
        others = [s for s in self.store.with_meaning(spec.meaning_digest) if s.folder != own.folder]
        self.stores[:] = [own, *others]  # the very list that readers hold
        self.parts = parts_of(self.store, self.stores, self.views)
        self._memo = self.request.memo(self.network.backbone.weights_path)

    def run(self) -> Iterator[Receipt]:
        """Do it: exactly one receipt per candidate, those known already first."""
        self._settle()
        yield from (entry.receipt for entry in self.entries)
        try:
            kept = time.monotonic()
            for entry in self._extracted(self.plan):
                self.entries.append(entry)
                yield entry.receipt
                if time.monotonic() - kept > PART_SECONDS:
                    self._keep(part=True)
                    kept = time.monotonic()
        except BaseException:  # an interrupt above all
            with contextlib.suppress(RratagError):
                self._keep(part=True)
            raise
        self._keep()

    def _settle(self) -> None:
        """Find out where new features go, before anything is said to be done."""
        if not self.plan.pending:
            return
        spec = self.request.spec(self.network.backbone, self.network.precision, self.network.runtime)
        if spec.short == self.stores[0].folder.name:
            return
        before = self.stores[0].spec.meaning_digest
        self._open_store()
        if spec.meaning_digest != before:  # other weights under the same name: what is known is of the former ones
            self.plan = self._make_plan()
            self.entries = [*self.plan.unseen, *self.plan.done]

    def again(self, entry: Entry) -> Entry:
        """Features of a candidate anew, whose cached ones turned out to be damaged or gone; what became of it.

        The damaged file is set aside. Other features of equal meaning serve if there are any. Call `finish` at the end.
        """
        holder = next((store for store in self.stores if store.has(entry.key)), None)
        if holder is not None:
            holder.set_aside(entry.key)
        other = next((store for store in self.stores if store.is_whole(entry.key)), None)
        if other is not None:
            return replace(entry, receipt=receipt_of(other, entry.key, entry.id))
        videos = [video for video in self.discovery.videos if video.id == entry.id]
        (new,) = self._extracted(Plan(self.discovery, [], videos))
        self.entries = [new if one is entry else one for one in self.entries]
        self._healed = True
        return new

    def finish(self) -> None:
        """Keep what `again` changed."""
        if self._healed:
            self._healed = False
            self._keep()

    def _extracted(self, plan: Plan) -> Iterator[Entry]:
        """Decode and compute what is pending; the network is loaded if anything is."""
        if not plan.pending:
            return
        spec = self.request.spec(self.network.backbone, self.network.precision, self.network.runtime)
        if spec.short != self.stores[0].folder.name:
            self._open_store()
        self._memo = self.request.memo(self.network.backbone.weights_path)
        for part in self.parts:
            self.store.create_spec(part.stores[0].spec)
        yield from Pipeline(self, self._commit).run(plan)

    def _commit(self, job: Job) -> None:
        decoded = job.video.decoded
        assert job.maps is not None
        source = {
            "name": decoded.video.path.name,
            "size": decoded.size,
            "mtime_ns": decoded.mtime_ns,
            "sha256": decoded.sha256,
        }
        job.part.stores[0].write(
            decoded.sha256[:KEY_DIGITS],
            Features(job.maps, decoded.time_s, decoded.frame_index),
            decoded.receipt,
            source,
            compression=self.options.compression,
        )

    def _keep(self, *, part: bool = False) -> None:
        # even if all features were computed otherwise (GPU, CPU): the listing names this spec
        spec = self.store.create_spec(self.stores[0].spec)
        root = self.discovery.root.resolve()
        before = self.catalog.find(root, self.command, modality=self.request.modality)
        # what is known of the whole root by other settings is not given up for a part of it
        aside = not self.discovery.is_whole and before is not None and before.spec != spec.folder.name
        entries = [one for one in self.entries if one.receipt.reason != "duplicate_path"]
        if before is not None and before.spec == spec.folder.name:
            entries = self._remembering(entries, before) + self._beside(root, before)
        ordered = sorted(entries, key=lambda entry: entry.id)
        listing = Listing(root, self.command, spec.folder.name, self._memo, ordered)
        try:
            self.catalog.write(listing, part=part, aside=aside)
        except OSError as error:
            if not self.plan.pending:  # a cache that may only be read serves all that is in it
                logger.warning("%s: the listing cannot be written (%s)", self.catalog.folder, error.strerror)
                return
            raise StoppedError(f"{self.catalog.folder}: {error.strerror}; features are kept, run again") from error

    def _remembering(self, entries: list[Entry], before: Listing) -> list[Entry]:
        """`entries`, and what content was there of those that just now cannot be read: it is still needed."""
        known = {entry.id: entry.sha256 for entry in before.entries}
        return [
            replace(one, sha256=known.get(one.id, "")) if not one.sha256 and one.receipt.status in RETRIED else one
            for one in entries
        ]

    def _beside(self, root: Path, before: Listing) -> list[Entry]:
        """Entries of the listing there is that this run says nothing of.

        Those beside the part of the root that it was over, and those in folders that it could not list.
        """
        mine = {entry.id for entry in self.entries}
        if self.discovery.is_whole:
            closed = [f"{one.video}/" for one in self.discovery.failures if one.status == "permission_denied"]
            return [one for one in before.entries if one.id.startswith(tuple(closed)) and one.id not in mine]
        return [entry for entry in before.entries if entry.id not in mine and (root / entry.id).exists()]


def estimate(extraction: Extraction, *, samples: int = 3) -> tuple[float, float]:
    """Bytes and seconds that the pending videos will take, training views included, from trying a few of them.

    Returns
    -------
    Bytes on disk and seconds of wall time, scaled from `samples` pending videos spread over the list; of optical flow
    only a few stacks of each are tried.
    """
    pending = extraction.plan.pending
    if not pending:
        return 0.0, 0.0
    positions = np.unique(np.linspace(0, len(pending) - 1, min(samples, len(pending))).round().astype(int))
    tried = replace(extraction.plan, pending=[pending[i] for i in positions])
    sizes: list[int] = []
    tried_videos: dict[str, Decoded[NDArray[np.uint8]]] = {}

    def measure(job: Job) -> None:
        assert job.maps is not None
        decoded = job.video.decoded
        features = Features(job.maps, decoded.time_s, decoded.frame_index)
        sizes.append(len(file_image(features, {}, extraction.options.compression)))
        tried_videos[decoded.video.id] = decoded

    # the first pass also sets the network up; some, such as Inception-V3, take no small pictures
    backbone = extraction.network.backbone
    side = backbone.preprocessing.input_size
    extraction.network.maps(np.zeros((1, side, side, backbone.in_channels), np.uint8))
    pipeline = Pipeline(extraction, measure, keep_failures=False)
    if pipeline.flow:
        pipeline.sampling = flow_cost.TRIED
    start = time.monotonic()
    for _ in pipeline.run(tried):
        pass
    share = len(pending) / len(positions)
    if pipeline.flow:
        sampling, workers = extraction.request.sampling, extraction.options.workers
        return flow_cost.whole_cost(list(tried_videos.values()), sum(sizes), sampling, share, workers)
    return sum(sizes) * share, (time.monotonic() - start) * share
