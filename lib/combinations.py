"""Combinations of ingredients that mean nothing are refused before training, each in one sentence."""

from collections.abc import Mapping, Sequence

from lib.errors import ParameterError

PASTED = ("cutmix", "mixup_cutmix", "face_cutmix", "half_face")


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
        f"weights_path and init_from={init_from!r} both fill the backbone: keep one": bool(weights_path and init_from),
        f"weights_path fills one backbone, there are several: {backbone}": bool(weights_path)
        and not isinstance(backbone, str)
        and len(backbone) > 1,
    }
    for sentence, holds in refused.items():
        if holds:
            raise ParameterError(sentence)
