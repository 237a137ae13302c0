"""Features that are used once and forgotten: decode, network, hand over. Nothing is cached, so nothing is resumed."""

from __future__ import annotations

from collections.abc import Iterator

from rratag.features.catalog import Entry
from rratag.features.extract import Extraction
from rratag.features.pipeline import Job, Pipeline
from rratag.features.store import Features


class Streaming(Extraction):
    """An extraction that keeps nothing new: no features, no listing, no note of a failure.

    What is cached already serves as it is, and is made again in the cache where it is damaged (`Extraction.again`).
    """

    def stream(self) -> Iterator[tuple[Entry, Features | None]]:
        """Exactly one entry per candidate, with the features of each that had to be decoded.

        None stands for those of a video that failed, or whose features are in the cache. The caller drops what it was
        given before the next is made, so memory is bounded by the videos in flight, as in `Extraction.run`.
        """
        self._settle()
        yield from ((entry, None) for entry in self.entries)
        if not self.plan.pending:
            return
        held: dict[str, Features] = {}

        def hold(job: Job) -> None:
            assert job.maps is not None
            decoded = job.video.decoded
            held[decoded.video.id] = Features(job.maps, decoded.time_s, decoded.frame_index)

        for entry in Pipeline(self, hold, keep_failures=False).run(self.plan):
            self.entries.append(entry)
            yield entry, held.pop(entry.id, None)

    def finish(self) -> None:
        """Keep no listing: it would name features that are nowhere."""
