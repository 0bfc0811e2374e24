"""Combinations of ingredients that mean nothing are refused before training, each in one sentence."""

from collections.abc import Mapping, Sequence

from timm.optim import list_optimizers

from lib.data.folds import SPLITS
from lib.errors import ParameterError, pick
from lib.face.crops import BACKGROUNDS, CROPS
from lib.learn.augment import PIPELINES
from lib.learn.heads import AGE_HEADS, CLASS_WEIGHTS, HEADS, TASKS
from lib.learn.losses import LOSSES
from lib.learn.mixers import MIXERS
from lib.learn.models import FREEZES
from lib.learn.precision import CHOICES as PRECISION_CHOICES
from lib.learn.samplers import SAMPLERS
from lib.learn.train import SCHEDULES
from lib.task.labels import YEARS

CHOICES = {
    "crop": CROPS,
    "background": BACKGROUNDS,
    "split": SPLITS,
    "head": HEADS,
    "age_head": AGE_HEADS,
    "task": TASKS,
    "class_weights": CLASS_WEIGHTS,
    "mixer": MIXERS,
    "sampler": SAMPLERS,
    "schedule": SCHEDULES,
    "freeze": FREEZES,
    "optimizer": dict.fromkeys(list_optimizers()),
    "precision": PRECISION_CHOICES,
}
PASTED = ("cutmix", "mixup_cutmix", "face_cutmix", "half_face")


def check_choices(params: Mapping) -> None:
    """Raise ParameterError for the first parameter that names no choice there is, before anything is computed."""
    for name, table in CHOICES.items():
        pick(table, params[name], name)
    for name, table in {"loss": LOSSES, "augment": PIPELINES}.items():
        for term in params[name]:
            pick(table, term, name)


def check(
    *,
    head: str,
    age_head: str,
    task: str,
    loss: Mapping[str, float],
    mixer: str,
    neighbour_smoothing: float,
    label_smoothing: float,
    class_weights: str,
    sampler: str,
    freeze: str,
    freeze_epochs: int,
    epochs: int,
    split: str,
    fold_count: int,
    folds: Sequence[int],
    patience: int,
    schedule: str,
    backbone: str | Sequence[str],
    init_from: str,
    weights_path: str,
    mixer_off_epochs: int,
    shuffle_labels: bool,
    pseudo_labels: str,
    extra_data: Sequence[str],
    dropout: float,
    dropout_samples: int,
    decay_epochs: float,
    bn_batches: int,
    drop_ages: Sequence[int],
    **_unconcerned,
) -> None:
    """Raise ParameterError for the first combination of parameters that means nothing."""
    years = age_head != "groups"
    only_years = years and task == "age"
    trained = range(fold_count if split == "kfold" else 1)
    refused = {
        f"head={head!r} learns no age of its own: age_head={age_head!r} needs head='three'": years and head != "three",
        f"task={task!r} learns one attribute: it needs head='three', not head={head!r}": task != "all" and head != "three",
        f"task={task!r} learns no age: age_head={age_head!r} would do nothing": years and task in ("mask", "gender"),
        f"mixer={mixer!r} pastes parts of two faces, whose mean age is nobody's: age_head='regression' needs mixup or none": (
            mixer in PASTED and age_head == "regression" and task in ("all", "age")
        ),
        f"neighbour_smoothing={neighbour_smoothing} acts on age groups: age_head={age_head!r} has years": neighbour_smoothing
        and years,
        f"neighbour_smoothing={neighbour_smoothing} acts on age groups: task={task!r} has none": (
            neighbour_smoothing and task in ("mask", "gender")
        ),
        f"age_head={age_head!r} with task='age' has a loss of its own: loss={dict(loss)} would do nothing": only_years
        and loss != {"ce": 1.0},
        f"age_head={age_head!r} with task='age' learns years: label_smoothing and class_weights would do nothing": (
            only_years and (label_smoothing or class_weights != "none")
        ),
        "class_weights='balanced' weighs terms of ce, focal and new_focal: loss={'f1'} has none": class_weights != "none"
        and set(loss) == {"f1"},
        f"sampler='copy' equalises gender x age, then mask: task={task!r} has one attribute, take sampler='oversample'": (
            sampler == "copy" and task != "all"
        ),
        f"freeze={freeze!r} with freeze_epochs={freeze_epochs} of epochs={epochs} never changes: take 'always' or 'none'": (
            freeze in ("first", "after") and not 0 < freeze_epochs < epochs
        ),
        f"split='none' validates nobody: patience={patience} has no score to watch, set it to 0": split == "none" and patience,
        "split='none' validates nobody: schedule='plateau' has no score to watch": split == "none" and schedule == "plateau",
        f"folds={list(folds)} with split={split!r} can only be among {list(trained)}": not set(folds) <= set(trained),
        f"epochs={epochs} and decay_epochs={decay_epochs} must be above 0": epochs < 1 or decay_epochs <= 0,
        f"dropout_samples={dropout_samples} must be at least 1": dropout_samples < 1,
        f"dropout_samples={dropout_samples} draws nothing: dropout is 0": dropout_samples > 1 and not dropout,
        f"mixer={mixer!r} never mixes: mixer_off_epochs={mixer_off_epochs} of epochs={epochs}": (
            mixer != "none" and mixer_off_epochs >= epochs
        ),
        f"schedule='step' never steps: decay_epochs={decay_epochs} of epochs={epochs}": (
            schedule == "step" and decay_epochs >= epochs
        ),
        "shuffle_labels checks for leaks: true labels by init_from, pseudo_labels or extra_data would spoil it": (
            shuffle_labels and bool(init_from or pseudo_labels or extra_data)
        ),
        f"bn_batches={bn_batches} would measure anew what freeze={freeze!r} keeps: set it to 0": bn_batches
        and freeze != "none",
        f"drop_ages={list(drop_ages)} must be recorded years, whole numbers from {YEARS[0]} to {YEARS[-1]}": (
            not set(drop_ages) <= set(YEARS)
        ),
        f"weights_path and init_from={init_from!r} both fill the backbone: keep one": bool(weights_path and init_from),
        f"weights_path fills one backbone, there are several: {backbone}": bool(weights_path)
        and not isinstance(backbone, str)
        and len(backbone) > 1,
    }
    for sentence, holds in refused.items():
        if holds:
            raise ParameterError(sentence)
