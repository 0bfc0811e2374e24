"""Combinations of parameters that mean nothing are refused before training, all of them at once.

A rule is a condition on the parameters and the sentence that explains it; a new one is an entry of
RULES. ``lib.runner.parameters`` checks types, choices and words of the task before, and tells what
is broken: in ``lib.run --check``, and in the notebook. Nothing heavy is imported.
"""

from collections.abc import Callable, Mapping
from operator import attrgetter
from types import SimpleNamespace

from lib.task.attributes import GROUPS, Task

PLAIN_LOSS = ({"ce": 1.0}, 0, "none")  # loss, label_smoothing, class_weights as they are by default
NOT_PART_OF_A_RUN = (  # how it is worked through and what is noted of it, not what comes out
    "folds", "workers", "cpus", "gpus", "compiled", "tracker", "why", "expect",
)  # fmt: skip
SHARES = attrgetter("dropout", "drop_path", "ema_decay")
NAMES_OF_A_RUN = ("experiment", "runs_dir")  # where it is, not what comes out
Rule = tuple[Callable[[SimpleNamespace], object], str]

RULES: list[Rule] = [
    (
        lambda p: p.numbers and p.head == "joint",
        "head='joint' has no ordered attribute of its own: ordered_head={ordered_head!r} needs "
        "head='separate' or 'shared'",
    ),
    (
        lambda p: p.learn and p.head == "joint",
        "learn={learn} names some attributes: head='joint' learns all of them together",
    ),
    (
        lambda p: p.head == "joint" and not p.is_joint,
        "task={task!r} has too many labels for head='joint': take 'separate' or 'shared'",
    ),
    (
        lambda p: p.numbers and not p.learned_ordered,
        "learn={learn} has no ordered attribute: ordered_head={ordered_head!r} would do nothing",
    ),
    (
        lambda p: p.ordered_weight <= 0,
        "ordered_weight={ordered_weight} must be above 0; ordered_head='groups' learns no numbers",
    ),
    (
        lambda p: p.neighbour_smoothing and (p.without_groups or not p.learned_ordered),
        "neighbour_smoothing={neighbour_smoothing} acts on groups of an ordered attribute, and "
        "learn={learn} with ordered_head={ordered_head!r} learns none",
    ),
    (
        lambda p: p.only_numbers and (p.loss, p.label_smoothing, p.class_weights) != PLAIN_LOSS,
        "ordered_head={ordered_head!r} learns numbers by a loss of its own: loss={loss}, "
        "label_smoothing={label_smoothing} and class_weights={class_weights!r} would do nothing",
    ),
    (
        lambda p: p.class_weights != "none" and set(p.loss) == {"f1"},
        "class_weights={class_weights!r} weighs ce, focal and new_focal: loss={loss} has none",
    ),
    (
        lambda p: p.sampler == "copy" and p.learn,
        "sampler='copy' equalises people, then photos, over all attributes: learn={learn} names "
        "some, take sampler='oversample'",
    ),
    (
        lambda p: p.balance != 1 and p.sampler != "weighted",
        "balance={balance} is the power of sampler='weighted': sampler={sampler!r} has none",
    ),
    (
        lambda p: p.head_rate <= 0 or not 0 < p.layer_decay <= 1,
        "head_rate={head_rate} must be above 0, and layer_decay={layer_decay} from above 0 to 1",
    ),
    (
        lambda p: p.freeze in ("first", "after") and not 0 < p.freeze_epochs < p.epochs,
        "freeze={freeze!r} with freeze_epochs={freeze_epochs} of epochs={epochs} never changes: "
        "take 'always' or 'none'",
    ),
    (
        lambda p: not 0 < p.frozen_layers <= 1,
        "frozen_layers={frozen_layers} must be from above 0 to 1",
    ),
    (
        lambda p: p.frozen_layers != 1 and p.freeze == "none",
        "frozen_layers={frozen_layers} is how much freeze holds: freeze='none' holds nothing",
    ),
    (
        lambda p: p.split == "none" and (p.patience or p.schedule == "plateau"),
        "split='none' validates nobody, there is no score to watch: set patience={patience} to 0, "
        "and take another schedule than plateau",
    ),
    (
        lambda p: not set(p.folds) <= set(p.possible_folds),
        "folds={folds} with split={split!r} can only be among {possible_folds}",
    ),
    (
        lambda p: p.epochs < 1 or p.decay_epochs <= 0,
        "epochs={epochs} and decay_epochs={decay_epochs} must be above 0",
    ),
    (
        lambda p: min(p.batch_size, p.accumulate, p.dropout_samples, p.learning_rate) <= 0,
        "batch_size={batch_size}, accumulate={accumulate}, dropout_samples={dropout_samples} and "
        "learning_rate={learning_rate} must be above 0",
    ),
    (
        lambda p: not 0 <= min(SHARES(p)) <= max(SHARES(p)) < 1,
        "dropout={dropout}, drop_path={drop_path} and ema_decay={ema_decay} are shares from 0 to "
        "below 1",
    ),
    (
        lambda p: min(p.cpus, p.gpus) < 0,
        "cpus={cpus} and gpus={gpus} must be 0 or above",
    ),
    (lambda p: p.fold_count < 2, "fold_count={fold_count} must be at least 2"),
    (
        lambda p: len(p.image_size) != 2 or min(p.image_size) < 16,
        "image_size={image_size} must be height and width, each at least 16 px",
    ),
    (
        lambda p: not 0 < p.size_from <= 1,
        "size_from={size_from} is a share of image_size, from above 0 to 1",
    ),
    (
        lambda p: p.dropout_samples > 1 and not p.dropout,
        "dropout_samples={dropout_samples} draws nothing: dropout is 0",
    ),
    (
        lambda p: p.mixer != "none" and p.mixer_off_epochs >= p.epochs,
        "mixer={mixer!r} never mixes: mixer_off_epochs={mixer_off_epochs} of epochs={epochs}",
    ),
    (
        lambda p: p.mix_within and (p.mixer == "none" or not all(p.mix_within.values())),
        "mix_within={mix_within} mixes nothing: name classes of each attribute, and a mixer",
    ),
    (
        lambda p: p.schedule == "step" and p.decay_epochs >= p.epochs,
        "schedule='step' never steps: decay_epochs={decay_epochs} of epochs={epochs}",
    ),
    (
        lambda p: p.shuffle_labels and (p.init_from or p.pseudo_labels or p.extra_data),
        "shuffle_labels looks for leaks: init_from, pseudo_labels and extra_data bring true "
        "labels, leave them empty",
    ),
    (
        lambda p: p.pseudo_data and not p.pseudo_labels,
        "pseudo_data={pseudo_data!r} has no labels: name the submission that gives them in "
        "pseudo_labels",
    ),
    (
        lambda p: p.bn_batches and p.freeze != "none",
        "bn_batches={bn_batches} would measure what freeze={freeze!r} keeps: set it to 0",
    ),
    (
        lambda p: not 0 <= p.soup_epochs <= p.epochs,
        "soup_epochs={soup_epochs} must be from 0 to epochs={epochs}",
    ),
    (
        lambda p: p.soup_epochs and p.patience,
        "patience={patience} may end a fold before its last epochs, of which soup_epochs="
        "{soup_epochs} is the mean: set one of them to 0",
    ),
    (
        lambda p: p.soup_epochs and not (p.bn_batches or p.body_rests),
        "soup_epochs={soup_epochs} averages weights, for which BatchNorm must be measured again: "
        "set bn_batches, such as 20, with freeze='none'",
    ),
    (
        lambda p: p.weights_path and p.init_from,
        "weights_path and init_from={init_from!r} both fill the backbone: keep one",
    ),
    (
        lambda p: p.weights_path and len(p.backbone) > 1,
        "weights_path fills one backbone, there are several: {backbone}",
    ),
]


def broken(params: Mapping, task: Task) -> list[str]:
    """Return a sentence for every rule that the parameters break; their words fit the task."""
    facts = dict(params) | _facts(params, task)
    return [rule.format(**facts) for holds, rule in RULES if holds(SimpleNamespace(**facts))]


def _facts(params: Mapping, task: Task) -> dict:
    """Return what several rules ask of the parameters."""
    ordered = [name for name in task.learned(params["learn"]) if task[name].ordered]
    numbers = params["ordered_head"] != GROUPS
    grouped = params["ordered_head"] in (GROUPS, "both")
    return {
        "learned_ordered": ordered,
        "numbers": numbers,
        "without_groups": not grouped,
        "only_numbers": not grouped and ordered == task.learned(params["learn"]),
        "is_joint": task.joint,
        "body_rests": params["freeze"] == "always" and params["frozen_layers"] == 1,
        "possible_folds": possible_folds(params),
    }


def possible_folds(params: Mapping) -> list[int]:
    """Return the folds that can be trained; without cross-validation there is one, fold 0."""
    return list(range(params["fold_count"] if params["split"] == "kfold" else 1))
