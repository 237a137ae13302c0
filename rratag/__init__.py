"""Offline fine-grained video tagging with Redundancy Reduction Attention (Zhu et al., ECCV 2018).

The public face is small: :class:`RRAHead`, :func:`load_model`, :func:`tag_videos` and :func:`read_features`. Names are
resolved on first use, so that ``import rratag`` (and ``rratag --help``) loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "RRAHead": "rratag.head.rra",
    "load_model": "rratag.model",
    "read_features": "rratag.features.store",
    "tag_videos": "rratag.tag.run",
}

__all__ = ["RRAHead", "__version__", "load_model", "read_features", "tag_videos"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'rratag' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
