"""Where a model looks: class activation maps (CAMs), and how much of them is the face.

Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) weighs the channels of the last feature map by
the gradient of an answer; pytorch-grad-cam computes it. A model that answers from clothes or walls
gets good scores in validation, where these reveal the class too, and fails on other photos. Its
maps show that: they lie outside the face.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from pytorch_grad_cam import LayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from lib.errors import ParameterError
from lib.face.crops import Crops, geometry, open_crops
from lib.face.faces import BOX
from lib.learn import heads, recipe
from lib.learn.models import PhotoModel
from lib.progress import progress
from lib.score import intervals, metrics
from lib.score.runs import Run
from lib.task.attributes import LABEL, Task
from lib.task.tables import probabilities
from lib.task.targets import marginal

BATCH_SIZE = 16  # photos per pass: gradients are kept
# The alarm. Synthetic people, whole photos, four models trained on few of them: where clothes and
# walls reveal the class, the most suspected attribute had a density of 1.0 and 1.6, elsewhere all
# attributes had 2.0 to 4.3. In a crop with a wider face there is too little else to look at.
LEAST_DENSITY = 2.0
WIDEST = 0.3  # share of the crop
STRIDE = 16  # px per cell of a map at most: of a small picture, the last map may have 4 by 4 cells


class LogOdds(nn.Module):
    """Log-odds (N, classes) of one attribute, of images: the one tensor that a CAM is made from.

    Odds and not probabilities, whose gradient vanishes where a model is sure. Any head will do: an
    attribute without an output of its own is summed from the label.
    """

    def __init__(self, model: PhotoModel, name: str):
        super().__init__()
        self.model, self.name = model, name
        self.output = name if name in model.outputs else LABEL

    def forward(self, images: Tensor) -> Tensor:
        """Return the log-odds of each class against all others."""
        logits = self.model(images)[self.output].float()
        chances = heads.chances(self.model.outputs[self.output], logits)
        if self.output != self.name:
            task = self.model.task
            chances = marginal(task, chances.unflatten(1, task.shape), self.name)
        others = chances @ (1 - torch.eye(chances.shape[1], device=chances.device))
        tiny = torch.finfo(chances.dtype).tiny
        return chances.clamp_min(tiny).log() - others.clamp_min(tiny).log()


class Features(NamedTuple):
    """The module that a feature map comes from, and what makes its output (N, C, H, W)."""

    layer: nn.Module
    to_maps: Callable[[Tensor], Tensor]


def features(backbone: nn.Module) -> Features:
    """Return the last feature map of a timm model that has at least a cell per STRIDE pixels.

    Tokens of a transformer are taken before the last attention, since a class token leaves those
    behind it without a gradient. ParameterError for a model that has no such map.
    """
    levels = [level for level in _levels(backbone) if level["reduction"] <= STRIDE]
    if not levels:
        raise ParameterError(
            f"backbone {type(backbone).__name__} has no feature map that a CAM can be made from: "
            "give cam_photos: 0, which leaves the CAMs out"
        )
    blocks = getattr(backbone, "blocks", [None])
    if hasattr(backbone, "cls_token") and hasattr(blocks[-1], "norm1"):
        return Features(blocks[-1].norm1, partial(tokens_to_maps, backbone.patch_embed.grid_size))
    output_fmt = getattr(backbone, "output_fmt", "NCHW")
    layer = backbone.get_submodule(levels[-1]["module"])
    return Features(layer, partial(channels_first, output_fmt))


def _levels(backbone: nn.Module) -> list[dict]:
    """Return timm's list of a model's feature maps: ``module`` and ``reduction`` of each."""
    info = getattr(backbone, "feature_info", [])
    return list(getattr(info, "info", info))


def channels_first(output_fmt: str, maps: Tensor) -> Tensor:
    """Return feature maps as (N, C, H, W); Swin's are (N, H, W, C)."""
    return maps.movedim(-1, 1) if output_fmt == "NHWC" else maps


def tokens_to_maps(grid: Sequence[int], tokens: Tensor) -> Tensor:
    """Return tokens (N, T, C) of a grid as (N, C, H, W); those before the grid are no places."""
    height, width = grid
    return tokens[:, -height * width :].movedim(-1, 1).unflatten(2, (height, width))


def cams(model: PhotoModel, images: Tensor, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return maps (N, H, W), 0 to 1, of an attribute's predicted class, and that class (N,).

    ``images`` are (N, 3, H, W) in 0..255. The maps of several backbones are averaged. A map is 0
    everywhere where no place speaks for the class.
    """
    answer = LogOdds(model, name).eval()
    with torch.no_grad():
        classes = answer(images).argmax(1).tolist()
    targets = [ClassifierOutputTarget(k) for k in classes]
    maps = []
    for backbone in model.backbone.models:
        layer, to_maps = features(backbone)
        with LayerCAM(answer, [layer], to_maps) as cam:
            maps.append(cam(images, targets))
    return np.mean(maps, axis=0), np.array(classes)


def central(crops: Crops, keys: Sequence[str]) -> tuple[Tensor, np.ndarray]:
    """Return what a model sees of crops, (N, 3, H, W) in 0..255, and the face boxes there."""
    (height, width), rows = crops.image_size, crops.rows(keys)
    top, left = (crops.pixels.shape[1] - height) // 2, (crops.pixels.shape[2] - width) // 2
    pixels = crops.pixels[rows, top : top + height, left : left + width]
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    return images, crops.boxes[rows] - np.array([left, top, left, top])


def pictures(run: Run, keys: Sequence[str]) -> list[np.ndarray]:
    """Return what a run's models see of photos: (height, width, 3) RGB each."""
    crops = open_crops(run.params["work_dir"], **geometry(run.params))
    return list(_pictures(central(crops, keys)[0]))


def _pictures(images: Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).byte().numpy()


def inside(maps: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of each map (N, H, W) in its box (N, 4), and the box's share of the area.

    A pixel that a box cuts counts by the part inside. An empty map has no share: NaN.
    """
    down, across = (_covered(boxes[:, [axis, axis + 2]], maps.shape[2 - axis]) for axis in (1, 0))
    sums, total = np.einsum("nhw,nh,nw->n", maps, down, across), maps.sum(axis=(1, 2))
    share = np.divide(sums, total, out=np.full(len(maps), np.nan), where=total > 0)
    return share, down.mean(axis=1) * across.mean(axis=1)


def _covered(spans: np.ndarray, size: int) -> np.ndarray:
    """Return which part of each of ``size`` pixels lies in spans (N, 2): (N, size) from 0 to 1."""
    pixels = np.arange(size)
    low, high = np.maximum(spans[:, :1], pixels), np.minimum(spans[:, 1:], pixels + 1)
    return np.clip(high - low, 0, 1)


class Looks(NamedTuple):
    """Photos and their maps: ``table`` has a row per photo and attribute, in the order of ``maps``.

    Columns: key, person, attribute, predicted and true class, ``right``, the shares ``inside`` (of
    the map, in the face box) and ``area`` (of the crop, by that box), and the box.
    """

    table: pd.DataFrame
    images: np.ndarray
    maps: np.ndarray


def sample(oof: pd.DataFrame, count: int, seed: int) -> pd.Index:
    """Return the keys of ``count`` random photos of as many people as there are."""
    order = oof.sample(frac=1, random_state=seed)
    turn = order.groupby("person").cumcount().sort_values(kind="stable")
    return turn.index[:count]


def examples(oof: pd.DataFrame, task: Task, name: str, each: int) -> pd.Index:
    """Return keys of up to ``each`` photos that are wrong in an attribute and as many right ones.

    Those that the model is surest of, one per person; the wrong ones come first.
    """
    chances = probabilities(oof, task, name)
    right = metrics.predicted(oof, task)[name] == metrics.truth(oof, task)[name]
    order = oof.assign(sure=chances.max(axis=1)).sort_values("sure", ascending=False)
    found = [order[right[order.index] == good].drop_duplicates("person") for good in (False, True)]
    return found[0].index[:each].append(found[1].index[:each])


def look(run: Run, keys: Sequence[str], names: Sequence[str]) -> Looks:
    """Return the maps of photos for each attribute, by the model that was validated on them."""
    oof = run.oof().loc[keys]
    crops = open_crops(run.params["work_dir"], **geometry(run.params))
    found = []
    for fold, photos in progress(list(oof.groupby("fold")), "CAMs", unit="fold"):
        model = recipe.restore(run.params, run.task, run.fold(int(fold)))
        for start in range(0, len(photos), BATCH_SIZE):
            batch = photos.iloc[start : start + BATCH_SIZE]
            found += [_look(model, crops, batch, name) for name in names]
    tables, images, maps = zip(*found, strict=True)
    table = pd.concat(tables, ignore_index=True)
    return Looks(table, np.concatenate(images), np.concatenate(maps))


def _look(model: PhotoModel, crops: Crops, photos: pd.DataFrame, name: str) -> tuple:
    images, boxes = central(crops, photos.index)
    maps, said = cams(model, images, name)
    share, area = inside(maps, boxes)
    names, true = model.task[name].classes, metrics.truth(photos, model.task)[name]
    facts = {"key": photos.index, "person": photos["person"].to_numpy(), "attribute": name}
    classes = {"predicted": np.take(names, said), "true": np.take(names, true)}
    shares = {"right": said == true.to_numpy(), "inside": share, "area": area}
    table = pd.DataFrame(facts | classes | shares).join(pd.DataFrame(boxes, columns=BOX))
    return table, _pictures(images), maps


def in_face(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per attribute: the mean share of maps ``inside`` the face box, and ``density``.

    ``area`` is the share that a map without preference would have. ``density`` says how many times
    as much of the map a pixel of the face has than a pixel outside, with ``low`` and ``high``.
    ``table`` is that of ``Looks``; intervals are of a bootstrap over its people.
    """
    return pd.DataFrame(
        {name: _in_face(part) for name, part in table.groupby("attribute", sort=False)}
    ).T


def _in_face(table: pd.DataFrame) -> pd.Series:
    by_person = table.dropna(subset="inside").groupby("person")[["inside", "area"]]
    sums, photos = by_person.sum().to_numpy(), by_person.size().to_numpy()
    weights = intervals.resample(np.zeros(len(photos)))
    drawn = weights @ sums / (weights @ photos)[:, None]
    share, area = sums.sum(axis=0) / photos.sum()
    limits = intervals.interval(np.c_[drawn[:, 0], density(*drawn.T)])
    ends = dict(
        zip(["inside_low", "inside_high", "low", "high"], limits.to_numpy().ravel(), strict=True)
    )
    facts = {"photos": photos.sum(), "inside": share, "area": area, "density": density(share, area)}
    return pd.Series(facts | ends)


def density(inside, area):
    """Return the map per pixel inside a box over that outside; NaN where nothing is outside."""
    outside = np.where(np.less(area, 1), np.subtract(1, inside) * area, np.nan)
    with np.errstate(divide="ignore"):
        return inside * np.subtract(1, area) / outside


def verdict(found: pd.DataFrame) -> str:
    """Return in words whether the maps of any attribute shun the face (``in_face``): the alarm.

    An attribute is suspected when even the upper end of its interval is below LEAST_DENSITY. In a
    crop that is mostly face there is too little else to look at, and nothing is said of it.
    """
    if (found["area"] > WIDEST).any():
        return (
            f"No verdict: the face box fills {found['area'].max():.0%} of these crops, so there is "
            "little else to look at. Detect faces in notebook 02 and train a run with crop: whole."
        )
    suspects = found[found["high"] < LEAST_DENSITY]
    if suspects.empty:
        return (
            "No alarm: for every attribute a pixel of the face counts clearly more than one "
            f"outside it, at least {found['density'].min():.1f} times as much."
        )
    numbers = ", ".join(f"{name} ({row.density:.1f} times)" for name, row in suspects.iterrows())
    return (
        f"ALARM, a shortcut is likely: of {numbers} the maps lie hardly more on the face than "
        "elsewhere. Clothes or background may reveal the class in these photos; validation on "
        "them cannot notice, and other photos will score less. Compare with crop: face."
    )
