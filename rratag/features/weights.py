"""Where weights come from and what is checked before they are used: nothing is unpickled, every tensor fits.

Digests name weights in the spec.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rratag import tensorfile
from rratag.errors import WeightsError
from rratag.untrusted import shown

if TYPE_CHECKING:
    from torch import Tensor, nn

RANDOM = "random"
BUNDLED = "efficientnet_lite0"
ORIGINAL = "original_weights"
"""In the metadata of a safetensors file: see :func:`original_name`."""
_PARALLEL = "module."  # before every name of what torch.nn.DataParallel saved


def weights_file(weights: str | None) -> Path | None:
    """The file that ``--weights`` names, if it names one."""
    return Path(weights) if weights is not None and weights != RANDOM else None


def original_name(path: Path) -> str:
    """Name of the file that the weights at `path` were trained on from, if they say so; else their own.

    It tells for which preprocessing they were made.
    """
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors":
        return path.name
    try:
        with safe_open(path, "pt") as file:
            said = file.metadata()
    except (OSError, SafetensorError):  # said where it is read
        return path.name
    return str((said or {}).get(ORIGINAL, path.name))


def torchvision_file(name: str, url: str, weights: str | None, download: bool) -> Path | None:
    """Where torchvision keeps the file of `url`, fetched if asked; None for random weights."""
    import torch

    if weights == RANDOM:
        return None
    file_name = url.rsplit("/", 1)[-1]
    path = Path(torch.hub.get_dir()) / "checkpoints" / file_name
    if not path.exists():
        if not download:
            raise _missing(name, f"{file_name} is not in {path.parent}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=_hash_in(file_name), progress=False)
        except (OSError, RuntimeError) as error:
            raise WeightsError(f"{url}: {error}; fetch it elsewhere and give it with --weights FILE") from error
    return path


def _hash_in(file_name: str) -> str | None:
    """First digits of the sha256 that torchvision's file names carry: ``resnet50-0676ba61.pth``."""
    tail = Path(file_name).stem.rsplit("-", 1)[-1]
    return tail if len(tail) == 8 and all(digit in "0123456789abcdef" for digit in tail) else None


def timm_file(name: str, settings: Any, download: bool) -> Path | None:
    """Where the hub's client keeps the weights of a timm tag, fetched if asked."""
    import huggingface_hub

    repository = settings.hf_hub_id
    if not repository:
        raise _missing(name, "timm names no weights for it")
    for file_name in ("model.safetensors", "pytorch_model.bin"):
        found = huggingface_hub.try_to_load_from_cache(repository, file_name)
        if isinstance(found, str):
            return Path(found)
    if not download:
        raise _missing(name, f"the weights of {repository} are not on this machine")
    try:
        return Path(huggingface_hub.hf_hub_download(repository, "model.safetensors"))
    except Exception as error:  # the client raises many kinds; each means the same to the user
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{repository}: {reason}; fetch it elsewhere and give it with --weights FILE") from error


def _missing(name: str, found: str) -> WeightsError:
    return WeightsError(
        f"no weights for --backbone {name}: {found}; give --weights FILE, allow --download,"
        f" use --backbone {BUNDLED} (bundled), or --weights random to try things out"
    )


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a state dict or safetensors file, dense and finite; see :mod:`rratag.tensorfile`.

    Raises
    ------
    WeightsError
        If it is not such a file, or holds something else.
    """
    import torch

    try:
        with quiet():  # torch warns about pickles that it did not write
            state = tensorfile.load_safetensors(path) if path.suffix == ".safetensors" else tensorfile.load_torch(path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise WeightsError(f"{path}: not a state dict or safetensors file ({error})") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise WeightsError(
            f"{path}: holds no state dict of tensors; save one with torch.save(network.state_dict(), FILE)"
        )
    bad = next((key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()), None)
    if bad is not None:
        raise WeightsError(f"{path}: tensor {_named(bad)} holds values that are not finite")
    if all(key.startswith(_PARALLEL) for key in state):
        return {key.removeprefix(_PARALLEL): value for key, value in state.items()}
    return dict(state)


def num_classes(state: dict[str, Tensor], classifier: str, path: Path | None) -> int:
    """Classes that the weights at `path` were trained for, from their tensor `classifier`.

    Raises
    ------
    WeightsError
        If there is no such tensor.
    """
    if classifier not in state or state[classifier].ndim == 0:
        raise WeightsError(f"{path}: has no tensor {classifier}; the file belongs to another network")
    return int(state[classifier].shape[0])


def load_state(network: nn.Module, state: dict[str, Tensor], source: str, optional_prefix: str | None = None) -> None:
    """Copy `state` into `network`, every tensor checked by name, shape and kind of number.

    Raises
    ------
    WeightsError
        If one does not fit, or its values are too large for the network's type.
    """
    own = network.state_dict()
    needed = {key for key in own if not (optional_prefix and key.startswith(optional_prefix))}
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    missing, extra = needed - counters - state.keys(), state.keys() - own.keys()
    wrong = [key for key in state.keys() & own.keys() if not _fits(state[key], own[key])]
    if missing or extra or wrong:
        example = sorted(missing | extra | set(wrong))[0]
        raise WeightsError(
            f"{source}: does not fit the network ({len(missing)} tensors missing, {len(extra)} unknown, {len(wrong)} of"
            f" another shape; e.g. {_named(example)})"
        )
    converted = {key: value.to(own[key].dtype) for key, value in state.items()}
    if lost := [key for key, value in converted.items() if not value.isfinite().all()]:
        raise WeightsError(f"{source}: tensor {_named(lost[0])} holds values that {own[lost[0]].dtype} cannot")
    network.load_state_dict(converted, strict=False)


def _named(key: str) -> str:
    return key if key.isprintable() and len(key) <= 60 else shown(key)


def _fits(found: Tensor, own: Tensor) -> bool:
    return found.shape == own.shape and found.is_floating_point() == own.is_floating_point()


def file_digest(path: Path) -> str:
    """sha256 of a file, 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def state_digest(state: dict[str, Tensor]) -> str:
    """Digest of random weights, which have no file; says that they are random."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].cpu().contiguous().numpy().tobytes())
    return f"{RANDOM}-{digest.hexdigest()[:32]}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """torch and torchvision warn about files and initial weights that are dealt with here."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
