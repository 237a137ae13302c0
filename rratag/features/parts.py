"""The specs that one run fills: the base, and its training views, which are specs of their own. Imports no torch.

A training view's meaning is that of its base with one entry more, ``view``. So the base's features, its listings and
the models trained on it know nothing of views, and a view's ``spec.json`` says by itself which features it belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rratag.features.spec import Spec, digest, with_view
from rratag.features.store import FeatureStore, SpecStore
from rratag.video.augment import TrainingView


@dataclass(frozen=True)
class Part:
    """One spec of a run. `view` None is the base; `stores` are those that serve, new features go to the first."""

    view: TrainingView | None
    stores: list[SpecStore]

    def has(self, key: str) -> bool:
        """Whether the features of `key` are there: a stat."""
        return any(store.has(key) for store in self.stores)

    def is_whole(self, key: str) -> bool:
        """Whether the features of `key` are there and say what they are. Safe to call from several threads."""
        return any(store.is_whole(key) for store in self.stores)

    def holder(self, key: str) -> SpecStore | None:
        """The store that has the features of `key`, if any has."""
        return next((store for store in self.stores if store.has(key)), None)


def parts_of(store: FeatureStore, base: list[SpecStore], views: Sequence[TrainingView]) -> list[Part]:
    """The base and its views.

    Parameters
    ----------
    base : stores of the base, the very list that the base's part holds
    """
    return [Part(None, base), *view_parts(store, base[0].spec, views)]


def view_parts(store: FeatureStore, base: Spec, views: Sequence[TrainingView]) -> list[Part]:
    """The stores of each view beside `base`: first the one computed as `base` is, which need not exist yet."""
    if not views:
        return []
    known: dict[str, list[SpecStore]] = {}
    for one in store.specs():
        known.setdefault(one.spec.meaning_digest, []).append(one)
    parts = []
    for view in views:
        spec = Spec(with_view(base.meaning, view.describe()), base.compute)
        own = SpecStore(store.cache / spec.short, spec)
        others = [one for one in known.get(digest(spec.meaning), []) if one.folder != own.folder]
        parts.append(Part(view, [own, *others]))
    return parts
