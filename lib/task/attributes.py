"""A task is a list of attributes: unordered classes, or an ordered number that is cut into groups.

``load`` reads ``params/tasks/<name>.yaml``. Shapes, probability columns, labels and class names are
derived from it. Two words recur: what is *recorded* of a photo is a class index or, for an ordered
attribute, the number itself; a *class* is what is scored, such as a group of numbers.

Codes may be integers, NumPy arrays or pandas columns; nothing heavy is imported here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from lib import PROJECT
from lib.errors import ParameterError, nearest, one_of
from lib.textfiles import kind, read_yaml

TASKS = PROJECT / "params/tasks"
DEFAULT = "mask"  # the task of a command line that names none
LARGEST_JOINT = 512  # labels; above it a table of all combinations is not kept, only its marginals
PER = ("photo", "person")
METRICS = ("macro_f1", "accuracy", "balanced_accuracy", "log_loss", "quadratic_kappa")
ANSWERS = ("index", "name", "attributes", "probabilities")
LABEL = "label"  # the name of all attributes together
GROUPS = "groups"  # an ordered attribute that is learned by its scored groups, without order
RESERVED = {  # columns of the tables that attributes stand in
    LABEL, "key", "split", "person", "id", "file", "status", "bytes", "modified", "fold", "photos",
    "width", "height", "orientation", "frames", "sha256", "dhash", "brightness",
    "mean_r", "mean_g", "mean_b", "std_r", "std_g", "std_b", "x0", "y0", "x1", "y1", "score",
    "source", "accuracy", "people", *METRICS,
}  # fmt: skip


@dataclass(frozen=True)
class Attribute:
    """One property of a photo, or of the person on it: ``per`` says which.

    ``classes`` are scored. An ordered attribute has the first and last recorded number as
    ``values``, and the first number of every group but the lowest as ``cuts``.
    """

    name: str
    classes: tuple[str, ...]
    per: str
    values: tuple[int, ...] = ()
    cuts: tuple[int, ...] = ()

    @property
    def ordered(self) -> bool:
        """Whether a number is recorded, and scored by group."""
        return bool(self.values)

    @property
    def recorded(self) -> range:
        """Every number that can be recorded: ``size`` many, from ``first``."""
        first, last = self.values or (0, len(self.classes) - 1)
        return range(first, last + 1)

    first = property(lambda self: self.recorded.start)
    size = property(lambda self: len(self.recorded))

    def group(self, recorded, cuts: Sequence[int] = ()):
        """Return the class of recorded numbers, by other ``cuts`` where they are given."""
        if not self.ordered:
            return recorded
        return sum((recorded >= cut) * 1 for cut in self.checked_cuts(cuts or self.cuts))

    def checked_cuts(self, cuts: Sequence[int]) -> tuple[int, ...]:
        """Return ``cuts`` if each group keeps at least one number; ParameterError otherwise."""
        edges = [self.first, *cuts, self.first + self.size]
        whole = all(type(cut) is int for cut in cuts)
        if not whole or len(cuts) != len(self.cuts) or sorted(set(edges)) != edges:
            raise ParameterError(
                f"cuts of {self.name}: {list(cuts)} must be {len(self.cuts)} rising whole numbers "
                f"from {self.first + 1} to {self.recorded[-1]}; officially {list(self.cuts)}"
            )
        return tuple(cuts)

    def text(self, recorded: int) -> str:
        """Return a recorded number in the words of a table: a class name, or the number itself."""
        return str(recorded) if self.ordered else self.classes[recorded]

    def parse(self, text: str) -> int:
        """Return the recorded number of a table's word; ParameterError names what is accepted."""
        texts = {self.text(number): number for number in self.recorded}
        if text not in texts:
            accepted = ", ".join(self.classes) + nearest(text, self.classes)
            if self.ordered:
                accepted = f"{self.first} to {self.recorded[-1]}"
            raise ParameterError(f"{self.name}: {text!r} is not accepted, only {accepted}")
        return texts[text]


@dataclass(frozen=True)
class Answer:
    """How a submission is written: its format (one of ANSWERS) and the names of its columns.

    ``columns`` are the photo's and the label's; several columns of classes have names of their own.
    """

    format: str = "index"
    columns: tuple[str, str] = ("path", LABEL)


@dataclass(frozen=True)
class Task:
    """Attributes by name, in the order of the label's digits, the metric, and the answer's format.

    A label counts through all combinations of classes, the last attribute fastest.
    """

    name: str
    attributes: Mapping[str, Attribute]
    metric: str
    answer: Answer = Answer()

    def __getitem__(self, name: str) -> Attribute:
        """Return an attribute; ParameterError names the nearest one that there is."""
        if name not in self.attributes:
            known = ", ".join(self.attributes) + nearest(name, self.attributes)
            raise ParameterError(f"task {self.name!r} has no attribute {name!r}, only {known}")
        return self.attributes[name]

    @property
    def names(self) -> list[str]:
        """The attributes' names."""
        return list(self.attributes)

    @property
    def shape(self) -> tuple[int, ...]:
        """How many classes each attribute has."""
        return tuple(len(attribute.classes) for attribute in self.attributes.values())

    @property
    def joint(self) -> bool:
        """Whether a table of all labels is kept; a larger task keeps only one per attribute."""
        return prod(self.shape) <= LARGEST_JOINT

    def per(self, kind: str) -> list[str]:
        """Return the attributes that are recorded per photo, or per person."""
        return [name for name, attribute in self.attributes.items() if attribute.per == kind]

    def learned(self, learn: Sequence[str] = ()) -> list[str]:
        """Return the attributes that ``learn`` names, in the task's order; none named means all."""
        named = {self[name].name for name in learn} or set(self.names)
        return [name for name in self.names if name in named]

    def parts(self, learn: Sequence[str] = ()) -> list[str]:
        """Return what a prediction table is made of: the label, or one table for each attribute."""
        learned = self.learned(learn)
        return [LABEL] if self.joint and learned == self.names else learned

    def classes(self, part: str = LABEL) -> tuple[str, ...]:
        """Return the class names of the label or of an attribute."""
        return self.combinations(self.names if part == LABEL else [part])

    def combinations(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names of all combinations of some attributes' classes, in label order."""
        return tuple(map(" ".join, product(*(self[name].classes for name in names))))

    def columns(self, part: str = LABEL) -> list[str]:
        """Return the columns of the label (``p00`` ...) or of an attribute (``<name>_0`` ...)."""
        count = prod(self.shape) if part == LABEL else len(self[part].classes)
        width = max(2, len(str(count - 1)))
        return [f"p{k:0{width}d}" if part == LABEL else f"{part}_{k}" for k in range(count)]

    def encode(self, classes: Mapping):
        """Return labels of classes, integers or arrays, by attribute; some may be left out."""
        label = 0
        for name in (name for name in self.names if name in classes):
            label = label * len(self[name].classes) + classes[name]
        return label

    def decode(self, label) -> dict:
        """Return classes by attribute of labels: the inverse of ``encode``."""
        found = {}
        for name, size in zip(reversed(self.names), reversed(self.shape), strict=True):
            label, found[name] = label // size, label % size
        return {name: found[name] for name in self.names}

    def strata(self, table):
        """Return what folds are balanced over: classes of people, or else of photos."""
        names = self.per("person") or self.names
        return self.encode({name: self[name].group(table[name]) for name in names})

    def groups(self, table, cuts: Mapping[str, Sequence[int]] | None = None) -> dict:
        """Return classes by attribute of a table that has a column of recorded numbers for each."""
        cuts = self.checked_cuts(cuts or {})
        return {name: self[name].group(table[name], cuts.get(name, ())) for name in self.names}

    def checked_cuts(self, cuts: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
        """Return other cuts by attribute; ParameterError where an attribute has no such cuts."""
        for name in cuts:
            if not self[name].ordered:
                raise ParameterError(f"cuts: {name} has no order, so it has no cuts; leave it out")
        return {name: self[name].checked_cuts(values) for name, values in cuts.items()}

    def checked_classes(self, classes: Mapping[str, Sequence]) -> dict[str, list[int]]:
        """Return the indices of scored classes, by attribute, which are given by name."""
        named = {
            name: [one_of(self[name].classes, str(value), f"class of {name}") for value in values]
            for name, values in classes.items()
        }
        return {name: [*map(self[name].classes.index, values)] for name, values in named.items()}

    def checked_drop(self, drop: Mapping[str, Sequence]) -> dict[str, list[int]]:
        """Return recorded numbers to leave out, by attribute; unordered ones are given by name."""
        return {name: [self[name].parse(str(v)) for v in values] for name, values in drop.items()}


def load(name: str) -> Task:
    """Return the task of ``params/tasks/<name>.yaml``; ParameterError names the known tasks."""
    path = TASKS / f"{name}.yaml"
    if not path.is_file():
        there = sorted(found.stem for found in TASKS.glob("*.yaml"))
        raise ParameterError(
            f"task={name!r} is not one of: {', '.join(there)}{nearest(name, there)}; "
            f"a new one is a file in {TASKS.relative_to(PROJECT)}"
        )
    return parse(read_yaml(path), name, str(path))


def parse(values: Mapping, name: str, source: str) -> Task:
    """Return the task that a mapping describes; ``source`` is named in a ParameterError."""
    try:
        return _parse(values, name)
    except ParameterError as error:
        raise ParameterError(f"{source}: {error}") from None


def _parse(values: Mapping, name: str) -> Task:
    _known(values, ("attributes", "label", "metric", "answer"), "the task")
    described = values.get("attributes")
    if not isinstance(described, dict) or not described:
        raise ParameterError(
            "attributes: list at least one, such as 'colour: {classes: [red, blue]}'"
        )
    found = {key: _attribute(key, value) for key, value in described.items()}
    label = values.get("label", list(found))
    if not isinstance(label, list) or sorted(map(str, label)) != sorted(found):
        raise ParameterError(f"label: {label!r} must list each attribute once: {', '.join(found)}")
    metric = one_of(METRICS, values.get("metric", METRICS[0]), "metric")
    task = Task(name, {key: found[key] for key in label}, metric)
    return replace(task, answer=_answer(values.get("answer", {}), task.joint))


def _attribute(name: str, values: object) -> Attribute:
    if not isinstance(name, str) or not name.isidentifier() or name in RESERVED:
        raise ParameterError(
            f"attribute {name!r}: take letters, digits and _, and no name of a column: "
            f"{', '.join(sorted(RESERVED))}"
        )
    if not isinstance(values, dict):
        raise ParameterError(f"{name}: {values!r} is {kind(values)}; write {{classes: [a, b]}}")
    _known(values, ("classes", "values", "cuts", "names", "per"), name)
    per = one_of(PER, values.get("per", "photo"), f"{name}: per")
    if ("classes" in values) == ("values" in values):
        raise ParameterError(f"{name}: give either classes, or values with cuts and names")
    if "classes" in values:
        return Attribute(name, _texts(values["classes"], f"{name}: classes"), per)
    return _ordered(name, values, per)


def _ordered(name: str, values: Mapping, per: str) -> Attribute:
    ends, cuts = values["values"], values.get("cuts", [])
    whole = isinstance(ends, list) and [type(end) for end in ends] == [int, int]
    if not whole or ends[0] >= ends[1]:
        raise ParameterError(f"{name}: values={ends!r} must be the first and the last whole number")
    names = _texts(values.get("names", []), f"{name}: names")
    if not isinstance(cuts, list) or len(names) != len(cuts) + 1:
        raise ParameterError(f"{name}: {len(names)} names need {len(names) - 1} cuts, not {cuts!r}")
    attribute = Attribute(name, names, per, tuple(ends), tuple(cuts))
    attribute.checked_cuts(cuts)
    return attribute


def _texts(values: object, what: str) -> tuple[str, ...]:
    items = values if isinstance(values, list) else []
    if wrong := [item for item in items if type(item) not in (str, int)]:
        raise ParameterError(
            f"{what}: {wrong[0]!r} is {kind(wrong[0])}, not text: put quotes around it (a bare "
            "yes, no, on or off is read as true or false)"
        )
    texts = list(map(str, items))
    if len(texts) < 2 or len(set(texts)) != len(texts):
        raise ParameterError(f"{what}: {values!r} must be a list of two or more different names")
    return tuple(texts)


def _answer(values: object, joint: bool) -> Answer:
    if not isinstance(values, dict):
        raise ParameterError(f"answer: {values!r} is {kind(values)}; write {{format: index}}")
    _known(values, ("format", "columns"), "answer")
    columns = values.get("columns", list(Answer.columns))
    if not isinstance(columns, list) or [type(column) for column in columns] != [str, str]:
        raise ParameterError(f"answer: columns: {columns!r} must be two names: photo and class")
    form = values.get("format", "index" if joint else "attributes")
    if not joint and form in ("index", "name"):
        raise ParameterError(
            f"answer: format={form!r} is one label of all attributes, and this task has more than "
            f"{LARGEST_JOINT} labels: take attributes or probabilities"
        )
    return Answer(one_of(ANSWERS, form, "answer: format"), tuple(columns))


def _known(values: Mapping, names: Sequence[str], what: str) -> None:
    if unknown := [key for key in values if key not in names]:
        hint = nearest(unknown[0], names)
        raise ParameterError(f"{what}: {unknown[0]!r} is not one of: {', '.join(names)}{hint}")
