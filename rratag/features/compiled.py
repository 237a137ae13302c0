"""A frozen CNN compiled by OpenVINO for this machine's CPU: the same features in about half the time.

Every shape of images is a model of its own, compiled when it is first seen, and checked there against the network in
torch: a shape that the traced network does not generalise to is traced anew.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rratag.errors import StoppedError
from rratag.features.backbones import Backbone

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

HINTS = {"fp32": "f32", "bf16": "bf16"}
"""Our names of precisions, and OpenVINO's: it is never left to choose one itself."""

TOLERANCE = {"fp32": 1e-3, "bf16": 0.3}
"""Largest accepted distance from torch's float32 features, as a share of their Euclidean length.

Half of float32's is the rounding to float16. bfloat16 keeps 8 bits: what it costs depends on the network, and is said.
"""


def is_installed() -> bool:
    """Whether OpenVINO is there; it is not loaded."""
    return find_spec("openvino") is not None


class Compiled:
    """The features of a backbone by OpenVINO.

    Parameters
    ----------
    backbone : on the CPU in float32; what the compiled models are checked against
    precision : "fp32" or "bf16", of the arithmetic within

    Notes
    -----
    OpenVINO's converter tells its maker of each use, unless the package ``openvino_telemetry`` is missing: here it is
    made so, for this process.
    """

    def __init__(self, backbone: Backbone, precision: str) -> None:
        self.backbone, self.precision = backbone, precision
        self._run: dict[tuple[int, ...], Callable[[NDArray[np.uint8]], NDArray[np.float16]]] = {}
        self._traced: Any = None

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
            If the compiled network does not give the features that it gives in torch.
        """
        if images.shape not in self._run:
            self._run[images.shape] = self._checked(images)
        return self._run[images.shape](images)

    def _checked(self, images: NDArray[np.uint8]) -> Callable[[NDArray[np.uint8]], NDArray[np.float16]]:
        wanted = _token_first(self.backbone.features(torch.from_numpy(images))).numpy().astype(np.float32)
        errors = []
        for _ in range(2):
            fresh = self._traced is None
            run = self._compiled(images)
            errors.append(_distance(run(images), wanted))
            if errors[-1] <= TOLERANCE[self.precision]:
                logger.info("OpenVINO %s for images of %s: error %.2g", self.precision, images.shape, errors[-1])
                return run
            self._traced = None  # its paddings may be those of another picture
            if fresh:
                break
        raise StoppedError(
            f"--runtime openvino: {self.backbone.name} gives other features than in torch for images of"
            f" {images.shape[2]}x{images.shape[1]} (by {errors[-1]:.2g} of their length); use --runtime torch"
        )

    def _compiled(self, images: NDArray[np.uint8]) -> Callable[[NDArray[np.uint8]], NDArray[np.float16]]:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        if self._traced is None:
            with warnings.catch_warnings():  # it traces in a way that torch is about to give up
                warnings.simplefilter("ignore")
                self._traced = openvino.convert_model(
                    _WholeNetwork(self.backbone).eval(), example_input=torch.from_numpy(images[:1])
                )
        self._traced.reshape(list(images.shape))
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[self.precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        model = openvino.compile_model(self._traced, "CPU", settings)
        request = model.create_infer_request()

        def run(images: NDArray[np.uint8]) -> NDArray[np.float16]:
            request.infer([images])
            return np.array(request.get_output_tensor(0).data)  # its own memory is written over by the next

        return run


class _WholeNetwork(nn.Module):
    """Pixels in, stored features out, as one graph: (B, H, W, C) uint8 to (B, h, w, C) float16."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.network, self.backbone = backbone.network, backbone

    def forward(self, images: Tensor) -> Tensor:
        return _token_first(self.backbone.features(images))


def _token_first(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1).to(torch.float16)


def _distance(found: NDArray[np.float16], wanted: NDArray[np.float32]) -> float:
    """Length of the difference as a share of that of `wanted`; 0 if both are nothing."""
    length = float(np.linalg.norm(wanted))
    difference = float(np.linalg.norm(found.astype(np.float32) - wanted))
    return difference / length if length else float(difference > 0)
