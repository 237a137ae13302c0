"""Defaults, in one place, so that Python and the command line agree. How they were chosen: docs/defaults.md."""

from __future__ import annotations

from pathlib import Path

STATE_DIR = Path(".rratag")
CACHE_DIR = STATE_DIR / "features"
MODELS_DIR = STATE_DIR / "models"
MODEL_NAME = "latest"
CONFIG_FILE = Path("rratag.toml")
ENV_PREFIX = "RRATAG_"

MODALITY = "rgb"
BACKBONE = "efficientnet_lite0"
FRAMES = 12
CROPS = "full"
INPUT_SIZE = 336
DECODER = "auto"
BATCH_SIZE = 16

GLIMPSES = 4
LOSS = "Li+Le"
TRAIN_FRAMES = 4
SEED = 0
TOP = 5
