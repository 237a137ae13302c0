"""The table of heads in docs/results.md: many heads on one cache, a new 60/20/20 split for every seed.

    python tests/bench/compare_heads.py CACHE OUT.jsonl [--seeds 0,1,2] [--heads rra-4,mean] [--labels FILE ...]

Epochs are chosen on validation, the test part is read once. A finished (head, seed) is kept in OUT.jsonl and not
computed again, so a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from rratag.data.labels import parse_columns
from rratag.features.store import FeatureStore
from rratag.head.losses import parse_loss
from rratag.train.fit import TrainConfig
from rratag.train.linear import fit_linear
from rratag.train.run import LabelOptions, TrainingData, load_training_data, train_model
from rratag.train.validate import validate

HEADS: dict[str, dict[str, Any]] = {
    "mean": {"kind": "mean", "num_glimpses": 1, "input_bn": False},
    "mean-bn": {"kind": "mean", "num_glimpses": 1},
    "rra-1": {"num_glimpses": 1},
    "rra-4": {},
    "zero-4": {"reduction": "zero"},
    "parallel-4": {"kind": "parallel", "input_bn": False},
    "parallel-4-bn": {"kind": "parallel"},
}
LINEAR = "logistic"


def main() -> None:
    options = _parse()
    torch.set_num_threads(options.threads)
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    for seed in options.seeds:
        labels = LabelOptions(options.labels, parse_columns(options.columns), None, 0.2, 0.2, seed)
        data = load_training_data(FeatureStore(options.cache.absolute()), [], labels)
        for head in options.heads:
            if any((row["head"], row["seed"]) == (head, seed) for row in done):
                continue
            row = _linear(data, seed) if head == LINEAR else _trained(data, head, seed)
            done.append(row)
            with options.out.open("a") as handle:
                handle.write(json.dumps(row) + "\n")
    for head in dict.fromkeys(row["head"] for row in done):
        found = [row["test"] for row in done if row["head"] == head]
        spread = statistics.stdev(found) if len(found) > 1 else 0.0
        each = " ".join(f"{value:.3f}" for value in found)
        print(f"{head:<14} {statistics.mean(found):.3f} +- {spread:.3f}  ({each})")  # noqa: T201


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--heads", type=lambda text: text.split(","), default=[LINEAR, *HEADS])
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--columns", default="")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def _linear(data: TrainingData, seed: int) -> dict[str, Any]:
    found = fit_linear(data.part("train"), data.part("validation"), data.part("test"))
    return {"head": LINEAR, "seed": seed, "test": found.test_accuracy, "C": found.strength, "videos": _counts(data)}


def _trained(data: TrainingData, head: str, seed: int) -> dict[str, Any]:
    started, busy = time.perf_counter(), time.process_time()
    model, result = train_model(data, HEADS[head], TrainConfig(seed=seed))
    found = validate(model.head, data.part("test"), parse_loss("Li+Le"), torch.device("cpu"))
    assert result.validation is not None
    return {
        "head": head,
        "seed": seed,
        "test": found.accuracy,
        "glimpses": found.glimpse_accuracy,
        "validation": result.validation.accuracy,
        "epoch": result.best_epoch,
        "epochs": len(result.history),
        "videos": _counts(data),
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - busy, 1),
    }


def _counts(data: TrainingData) -> list[int]:
    return [sum(one.split == part for one in data.instances) for part in ("train", "validation", "test")]


if __name__ == "__main__":
    main()
