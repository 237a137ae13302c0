"""What decides a feature, and its digest. Plain data: no torch, no files.

``meaning`` is what a feature is (weights, tensor, resize and crop rule, sampling, colour, mean and std, stored type);
``compute`` how it was computed (runtime, precision). A model needs features of equal meaning; compute may differ.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from rratag.untrusted import check_depth, shown


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text.

    Raises
    ------
    ValueError
        If `value` holds a float that is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of `value`, 64 hex digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


@dataclass(frozen=True)
class Spec:
    """What decides a cached feature; the folder ``<cache>/<short>/`` holds all features of one spec."""

    meaning: dict[str, Any]
    compute: dict[str, Any]

    @property
    def digest(self) -> str:
        """64 hex digits over meaning and compute."""
        return digest({"meaning": self.meaning, "compute": self.compute})

    @property
    def short(self) -> str:
        """First 16 hex digits of the digest: the folder's name."""
        return self.digest[:16]

    @property
    def meaning_digest(self) -> str:
        """64 hex digits over the meaning alone: what a model compares."""
        return digest(self.meaning)

    def to_json(self) -> dict[str, Any]:
        """Content of ``spec.json``."""
        return {"format": "rratag-spec", "version": 1, "meaning": self.meaning, "compute": self.compute}

    @classmethod
    def from_json(cls, data: Any) -> Spec:
        """Read ``spec.json``.

        Raises
        ------
        ValueError
            If `data` is not a spec of a version this program reads, or nothing that has a digest.
        """
        if not isinstance(data, dict) or data.get("format") != "rratag-spec":
            raise ValueError("not a spec file")
        if data.get("version") != 1:
            raise ValueError(f"spec version {shown(data.get('version'))}, this program reads 1")
        meaning, compute = data.get("meaning"), data.get("compute")
        if not isinstance(meaning, dict) or not isinstance(compute, dict):
            raise ValueError("meaning and compute must be objects")
        check_depth(data)
        for name, kind in KINDS.items():
            if not isinstance(meaning.get(name, kind()), kind):
                raise ValueError(f"{name} is {shown(meaning[name])}")
        spec = cls(meaning, compute)
        canonical(spec.to_json())
        return spec


KINDS: dict[str, type] = {
    "backbone": str,
    "weights": str,
    "channels": int,
    "crops": str,
    "sampling": dict,
    "view": dict,
}
"""Of what every part of the program reads in a meaning."""


def with_view(base: dict[str, Any], view: dict[str, object]) -> dict[str, Any]:
    """The meaning of a training view of features that mean `base`."""
    return {**base, "view": view}


def base_of(meaning: dict[str, Any]) -> dict[str, Any]:
    """The meaning that a training view stands beside; `meaning` itself if it is of no training view."""
    return {name: value for name, value in meaning.items() if name != "view"}


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """One phrase for each field in which two meanings differ, e.g. ``crops: model 'full', features '1'``."""
    names = sorted(wanted.keys() | found.keys())
    return [
        f"{name}: model {_shorten(wanted.get(name))}, features {_shorten(found.get(name))}"
        for name in names
        if wanted.get(name) != found.get(name)
    ]


def _shorten(value: Any) -> str:
    text = value if isinstance(value, str) else canonical(value)
    return repr(text if len(text) <= 40 else text[:16] + "...")
