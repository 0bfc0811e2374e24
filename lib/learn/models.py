"""One or several backbones of timm, dropout, and one classifier per output of the head."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
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


def check_size(backbone: Backbone, image_size: Sequence[int]) -> None:
    """Raise a ParameterError when a backbone cannot take pictures of ``image_size``."""
    try:
        with torch.inference_mode():
            backbone.eval()(torch.zeros(1, 3, *image_size))
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        sizes = [list(model.pretrained_cfg["input_size"][1:]) for model in backbone.models]
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ParameterError(
            f"image_size={list(image_size)} does not fit the backbone, whose own size is "
            f"{' and '.join(map(str, sizes))}: give that size ({reason})"
        ) from None
    backbone.train()


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
        """Set the mode; a frozen backbone stays in evaluation and keeps its batch statistics."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.backbone.parameters()):
            self.backbone.eval()
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
