"""The recipe: what notebook 03's parameters mean, each put together in one place.

Training, benchmark, test-time augmentation and tests all build their model, epochs, criterion,
optimizer and scheduler here. ``params`` are the notebook's parameters as they stand.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from timm.optim import create_optimizer_v2, list_optimizers
from timm.optim._param_groups import param_groups_layer_decay
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer

from lib.errors import one_of, pick
from lib.learn import heads, loop, models, precision, sizes
from lib.learn.batches import Epochs, Photos
from lib.learn.mixers import Mixer, Within, make_mixer
from lib.learn.models import PhotoModel
from lib.learn.precision import Precision
from lib.learn.training_set import Source, classes, joined_targets
from lib.task.attributes import Task

SCHEDULES: dict[str, dict] = {  # by name, timm's settings
    "constant": {"sched": "constant"},
    "step": {"sched": "step"},
    "cosine": {"sched": "cosine"},
    "restarts": {"sched": "cosine", "cycle_decay": 1.0},
    "plateau": {"sched": "plateau", "plateau_mode": "max"},
}
WARMUP_FROM = 0.01  # share of the learning rate at the first warm-up step


def use_threads(params: Mapping) -> None:
    """Let torch compute with ``cpus`` threads, 0 for as many as there are.

    Sums over another number of threads differ in their last digits.
    """
    if params["cpus"]:
        torch.set_num_threads(params["cpus"])


def outputs(params: Mapping, task: Task) -> heads.Outputs:
    """Return what the head learns, by name."""
    names = ("head", "ordered_head", "ordered_weight", "learn", "cuts")
    return heads.outputs(task, **{name: params[name] for name in names})


def columns(params: Mapping, task: Task) -> list[str]:
    """Return the probability columns of the run's tables."""
    return [column for part in task.parts(params["learn"]) for column in task.columns(part)]


def model(params: Mapping, task: Task, fold: int = 0, start: Path | None = None) -> PhotoModel:
    """Return the model that a fold starts from; ``start`` is the folder of another run's fold."""
    set_seed(params["seed"] + fold)
    pretrained = params["pretrained"] and start is None
    made = _model(params, task, pretrained, params["weights_path"])
    shown = sizes.by_epoch(params["image_size"], params["size_from"], params["epochs"])
    models.check_sizes(made.backbone, list(dict.fromkeys(shown)))
    if start is not None:
        models.start_from(made, start)
    return made


def restore(params: Mapping, task: Task, fold_folder: Path) -> PhotoModel:
    """Return the best model of a finished fold, in evaluation mode; no other weights are read."""
    return models.load(untrained(params, task), fold_folder)


def untrained(params: Mapping, task: Task) -> PhotoModel:
    """Return a run's model without weights that mean anything: its checkpoints are to be loaded."""
    return _model(params, task, False, "")


def _model(params: Mapping, task: Task, pretrained: bool, weights_path: str) -> PhotoModel:
    names = ("backbone", "image_size", "drop_path")
    backbone = models.Backbone(pretrained, weights_path, **{name: params[name] for name in names})
    separate = params["head"] == "separate"
    dropout = params["dropout"], params["dropout_samples"]
    return PhotoModel(task, backbone, outputs(params, task), separate, *dropout)


def choose_precision(params: Mapping, model: PhotoModel, path: Path) -> pd.DataFrame:
    """Return the table of precisions, the chosen one marked; a probe is written to ``path``."""
    image_size, batch_size = params["image_size"], params["batch_size"]
    return precision.choose(params["precision"], model, image_size, batch_size, path)


def accelerator(params: Mapping, chosen: Precision) -> Accelerator:
    """Return accelerate's manager of device, processes and mixed precision."""
    return precision.accelerator(chosen, params["accumulate"], params["compiled"])


def epochs(
    params: Mapping,
    task: Task,
    sources: Sequence[Source],
    accelerator: Accelerator,
    chosen: Precision,
    fold: int = 0,
) -> Epochs:
    """Return the epochs of a fold on its sources."""
    names = (
        "sampler",
        "balance",
        "batch_size",
        "mixer_off_epochs",
        "epochs",
        "workers",
        "max_batches",
        "size_from",
    )
    seed = params["seed"] + fold
    return Epochs(
        Photos(sources, params["augment"], params["image_size"], seed),
        classes(task, sources, params["learn"], params["cuts"]),
        mixer=mixer(params, task),
        accelerator=accelerator,
        memory_format=chosen.memory_format,
        **{name: params[name] for name in names},
    )


def mixer(params: Mapping, task: Task) -> Mixer:
    """Return how photos of a batch are mixed: all of them, or those of one class only."""
    made = make_mixer(params["mixer"], params["mixer_alpha"], params["mixer_probability"])
    classes = task.checked_classes(params["mix_within"])
    return Within(made, task, classes, task.checked_cuts(params["cuts"])) if classes else made


def criterion(params: Mapping, task: Task, sources: Sequence[Source]) -> heads.Criterion:
    """Return the loss; class weights are counted in the sources."""
    return heads.criterion(task, outputs(params, task), joined_targets(sources), params)


def optimizer(params: Mapping, model: nn.Module) -> Optimizer:
    """Return timm's optimizer (adam, adamw, sgd, ...); no weight decay on biases and norms."""
    check_optimizer(params["optimizer"])
    made = create_optimizer_v2(
        _parameter_groups(params, model), opt=params["optimizer"], lr=params["learning_rate"]
    )
    for group in made.param_groups:
        if "fused" in group:  # torch's Adams and SGD: one pass, four times as fast on a CPU
            group["fused"] = True
    return made


def _parameter_groups(params: Mapping, model: nn.Module) -> list[dict]:
    """Return groups whose learning rates are multiples of the schedule's (``lr_scale``).

    The backbone's falls by ``layer_decay`` per layer towards the photo (Bao et al. 2021, BEiT,
    arXiv 2106.08254); what follows the backbone has ``head_rate``.
    """
    decay = params["weight_decay"]
    groups: defaultdict[tuple, list] = defaultdict(list)
    bodies = list(model.backbone.models) if isinstance(model, PhotoModel) else []
    for body in bodies:
        for group in param_groups_layer_decay(body, decay, layer_decay=params["layer_decay"]):
            groups[group["lr_scale"], group["weight_decay"]] += group["params"]
    inside = {parameter for body in bodies for parameter in body.parameters()}
    for parameter in (other for other in model.parameters() if other not in inside):
        groups[params["head_rate"], decay * (parameter.ndim > 1)].append(parameter)
    return [
        {"params": members, "lr_scale": scale, "weight_decay": decay}
        for (scale, decay), members in groups.items()
    ]


def check_optimizer(name: str) -> None:
    """Raise a ParameterError for a name that is no optimizer of timm."""
    one_of(list_optimizers(), name, "optimizer")


def scheduler(params: Mapping, optimizer: Optimizer, updates: int) -> Scheduler:
    """Return timm's scheduler, moved at each of an epoch's ``updates`` (plateau: by the score).

    ``decay_epochs`` is the length of a ``step`` or a cycle of ``restarts``, or plateau's patience.
    """
    schedule, epochs, decay = params["schedule"], params["epochs"], params["decay_epochs"]
    cycle = decay if schedule == "restarts" else epochs
    made, _ = create_scheduler_v2(
        optimizer,
        num_epochs=cycle,
        cycle_limit=math.ceil(epochs / cycle),
        decay_epochs=decay,
        decay_rate=params["decay_rate"],
        patience_epochs=decay,
        min_lr=params["min_learning_rate"],
        warmup_lr=WARMUP_FROM * optimizer.param_groups[0]["lr"],
        warmup_epochs=params["warmup_epochs"],
        step_on_epochs=schedule == "plateau",
        updates_per_epoch=updates,
        **pick(SCHEDULES, schedule, "schedule"),
    )
    return made


def learning_rates(params: Mapping, updates: int) -> pd.Series:
    """Return the learning rate of every update, index: epochs passed; plateau as if never stuck."""
    steps = optimizer(params, nn.Linear(1, 1))
    schedule, rates = scheduler(params, steps, updates), []
    for update in range(params["epochs"] * updates):
        rates.append(steps.param_groups[0]["lr"])
        schedule.step_update(update + 1)
        if (update + 1) % updates == 0:
            schedule.step((update + 1) // updates, float(update))
    return pd.Series(rates, [update / updates for update in range(len(rates))])


def learner(
    params: Mapping, task: Task, sources: Sequence[Source], data: Epochs, model: PhotoModel
) -> loop.Learner:
    """Return model, loss, optimizer and scheduler of a fold, placed on the device."""
    model = model.to(memory_format=data.memory_format)
    steps = optimizer(params, model)
    schedule = scheduler(params, steps, data.updates)
    loss = criterion(params, task, sources)
    averages = params["ema_decay"], params["soup_epochs"] > 0
    return loop.Learner.create(model, loss, steps, schedule, data.accelerator, *averages)


def fit(
    params: Mapping,
    learner: loop.Learner,
    data: Epochs,
    folder: Path,
    evaluate: Callable[[nn.Module], dict[str, float]],
    after_epoch: Callable[[pd.DataFrame], None] = lambda history: None,
) -> PhotoModel:
    """Train a fold to its end and return its best model; a fold that was begun goes on."""
    names = ("epochs", "patience", "bn_batches", "soup_epochs")
    loop.fit(
        learner,
        data,
        evaluate=evaluate,
        folder=folder,
        before_epoch=lambda epoch: freeze(params, learner.model, epoch),
        after_epoch=after_epoch,
        **{name: params[name] for name in names},
    )
    return models.load(learner.model, folder)


def freeze(params: Mapping, model: PhotoModel, epoch: int) -> None:
    """Freeze the backbone's first layers for an epoch (from 0), or none; classifiers learn."""
    frozen = pick(models.FREEZES, params["freeze"], "freeze")(epoch, params["freeze_epochs"])
    models.freeze_layers(model.backbone, params["frozen_layers"] if frozen else 0.0)
