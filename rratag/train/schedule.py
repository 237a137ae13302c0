"""Learning rates over training, and how long to train."""

from __future__ import annotations

import math

SCHEDULES = ("cosine", "step")


def rate_factor(schedule: str, step: int, steps_per_epoch: int, epochs: int, decay_every: int | None = None) -> float:
    """What to multiply the learning rate by at one step of the optimiser.

    Parameters
    ----------
    schedule : ``cosine``, from 1 to 0 over the whole run after a linear warm-up of at most a twentieth of it and five
        epochs; ``step``, times 0.1 every 30 epochs, or every `decay_every` steps (section 5.1)
    step : counted from 0 over the whole run
    steps_per_epoch, epochs : at least 1
    decay_every : steps, at least 1, of the schedule ``step``; None is 30 epochs

    Returns
    -------
    In (0, 1].
    """
    if schedule == "step":
        return float(0.1 ** (step // (decay_every or 30 * steps_per_epoch)))
    total = steps_per_epoch * epochs
    warm_up = min(5 * steps_per_epoch, max(1, total // 20))
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))


def default_batch_size(num_videos: int) -> int:
    """Videos a step that give about 16 steps an epoch: a power of two from 8 to 32.

    Parameters
    ----------
    num_videos : at least 1
    """
    return int(min(32, max(8, 2 ** round(math.log2(max(1, num_videos / 16))))))


def default_epochs(num_videos: int, batch_size: int) -> int:
    """Epochs that suit a training set: 25, more for small sets (250 steps, at most 80 epochs), fewer for huge ones.

    Parameters
    ----------
    num_videos, batch_size : at least 1
    """
    steps = max(1, num_videos // batch_size)
    return max(min(25, math.ceil(8_000 / steps)), min(80, math.ceil(250 / steps)), 8)


def batches(order: list[int], batch_size: int, smallest: int = 4) -> list[list[int]]:
    """Cut an order of videos into batches; a last batch of fewer than `smallest` joins the one before.

    BatchNorm statistics and the mean loss of one to three videos are too noisy to step on.
    """
    cut = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if len(cut) > 1 and len(cut[-1]) < smallest:
        last = cut.pop()
        cut[-1] = cut[-1] + last
    return cut
