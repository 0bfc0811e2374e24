"""One or several backbones of timm, dropout, and one classifier per output of the head."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from timm.models import group_parameters
from timm.optim._param_groups import auto_group_layers
from torch import Tensor, nn

from lib import artefacts
from lib.errors import ArtefactError, ParameterError
from lib.learn import weights
from lib.learn.heads import Outputs, logit_count, to_probabilities
from lib.task.attributes import Task


class Backbone(nn.Module):
    """Features (N, F) of images (N, 3, H, W) in 0..255, normalised and concatenated by backbone."""

    def __init__(
        self,
        pretrained: bool,
        weights_path: str,
        backbone: Sequence[str],
        image_size: Sequence[int],
        drop_path: float = 0.0,
    ):
        super().__init__()
        published = pretrained and not weights_path
        made = [weights.create(name, published, image_size, drop_path) for name in backbone]
        self.models = nn.ModuleList(made)
        if weights_path:
            weights.load_file(self.models[0], artefacts.resolve(weights_path))
        for index, model in enumerate(self.models):
            for statistic in ("mean", "std"):
                value = torch.tensor(model.pretrained_cfg[statistic]).reshape(1, 3, 1, 1) * 255
                self.register_buffer(f"{statistic}{index}", value, persistent=False)
        # Not num_features: some models (mobilenetv3, vgg) widen what they have pooled.
        self.feature_count = sum(model.head_hidden_size for model in self.models)

    def forward(self, images: Tensor) -> Tensor:
        """Return the concatenated pooled features."""
        features = []
        for k, model in enumerate(self.models):
            features.append(model((images - getattr(self, f"mean{k}")) / getattr(self, f"std{k}")))
        return torch.cat(features, dim=1)


def check_sizes(backbone: Backbone, sizes: Sequence[Sequence[int]]) -> None:
    """Raise a ParameterError when a backbone cannot take pictures of ``sizes``, the whole last."""
    *smaller, image_size = sizes
    if reason := _refusal(backbone, image_size):
        own = [list(model.pretrained_cfg["input_size"][1:]) for model in backbone.models]
        raise ParameterError(
            f"image_size={list(image_size)} does not fit the backbone, whose own size is "
            f"{' and '.join(map(str, own))}: give that size ({reason})"
        )
    for size in smaller:
        if reason := _refusal(backbone, size):
            raise ParameterError(
                f"size_from: the backbone cannot take the pictures of {list(size)} px that the "
                f"first epochs would show: set size_from to 1 ({reason})"
            )


def _refusal(backbone: Backbone, image_size: Sequence[int]) -> str:
    """Return why a backbone cannot take pictures of ``image_size``; "" where it can."""
    try:
        with torch.inference_mode():
            backbone.eval()(torch.zeros(1, 3, *image_size))
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    backbone.train()
    return ""


class MultiSampleDropout(nn.Module):
    """Dropout drawn ``samples`` times in training: (N, F) to (samples N, F), arXiv 1905.09788."""

    def __init__(self, p: float, samples: int):
        super().__init__()
        self.dropout, self.samples = nn.Dropout(p), samples

    def forward(self, features: Tensor) -> Tensor:
        """Repeat and drop in training; pass in evaluation."""
        return self.dropout(features.repeat(self.samples, 1)) if self.training else features


class PhotoModel(nn.Module):
    """Images (N, 3, H, W) in 0..255 to logits by output; ``probabilities`` is what follows uses.

    ``separate`` gives each output a hidden layer of its own.
    """

    HIDDEN = 256  # width of that layer

    def __init__(
        self,
        task: Task,
        backbone: Backbone,
        outputs: Outputs,
        separate: bool = False,
        dropout: float = 0.0,
        dropout_samples: int = 1,
    ):
        super().__init__()
        self.task, self.backbone, self.outputs = task, backbone, outputs
        self.dropout = MultiSampleDropout(dropout, dropout_samples)
        width = backbone.feature_count
        self.necks, self.classifiers = nn.ModuleDict(), nn.ModuleDict()
        for name in outputs:
            hidden = [nn.Linear(width, self.HIDDEN), nn.GELU()] if separate else []
            self.necks[name] = nn.Sequential(*hidden)
        for name, ways in outputs.items():
            width = self.HIDDEN if separate else backbone.feature_count
            self.classifiers[name] = nn.Linear(width, logit_count(ways))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits by output: (N, size), or (samples N, size) where dropout is drawn often."""
        features = self.dropout(self.backbone(images))
        return {name: self.classifiers[name](self.necks[name](features)) for name in self.outputs}

    def train(self, mode: bool = True) -> "PhotoModel":
        """Set the mode; frozen layers stay in evaluation and keep their batch statistics."""
        super().train(mode)
        for module in self.backbone.modules():
            learns = [parameter.requires_grad for parameter in module.parameters()]
            if learns and not any(learns):
                module.eval()
        return self

    def probabilities(self, images: Tensor) -> Tensor:
        """Return the probabilities (N, columns) of a run's table; each part of a row sums to 1."""
        return to_probabilities(self.task, self.outputs, self(images))


FREEZES: dict[str, Callable[[int, int], bool]] = {  # is the backbone frozen in an epoch (from 0)?
    "none": lambda epoch, freeze_epochs: False,
    "first": lambda epoch, freeze_epochs: epoch < freeze_epochs,
    "after": lambda epoch, freeze_epochs: epoch >= freeze_epochs,
    "always": lambda epoch, freeze_epochs: True,
}


def freeze_layers(backbone: Backbone, share: float) -> None:
    """Freeze the first ``share`` of each model's layers, in timm's order; the others learn."""
    for model in backbone.models:
        layers = _layers(model)
        learning = share * (max(layers.values()) + 1)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(layers[name] >= learning)


def _layers(model: nn.Module) -> dict[str, int]:
    """Return the layer of each parameter, counted from the photo on, as layer decay counts them."""
    if hasattr(model, "group_matcher"):
        return group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    return auto_group_layers(model)


def load(model: PhotoModel, fold_folder: Path) -> PhotoModel:
    """Fill a model with the best epoch of a fold and set it to evaluation."""
    model.load_state_dict(_best(fold_folder))
    return model.eval()


def start_from(model: PhotoModel, fold_folder: Path) -> None:
    """Fill a model from another run's fold; heads that differ keep their new weights."""
    own = model.state_dict()
    found = weights.fitting(_best(fold_folder), own)
    unfilled = [name for name in own if name.startswith("backbone.") and name not in found]
    if unfilled:
        raise ArtefactError(
            f"{fold_folder} is of another backbone: {len(unfilled)} tensors do not fit, "
            f"first {unfilled[0]}"
        )
    model.load_state_dict(found, strict=False)


def _best(fold_folder: Path) -> dict[str, Tensor]:
    path = fold_folder / "best.pt"
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except weights.BROKEN as error:
        why = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise ArtefactError(
            f"{path} {why}: delete {fold_folder}, and notebook 03 trains this fold again"
        ) from None
