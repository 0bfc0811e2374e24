"""The model card of a package: what it is, what it learned from, its scores, its limits.

Mitchell et al. 2019, Model cards for model reporting, arXiv 1810.03993.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from lib import artefacts
from lib.artefacts import resolve
from lib.package import manifest
from lib.score import intervals, metrics, nested
from lib.score.between import Between
from lib.score.ensemble import Tables, complete
from lib.score.nested import Method
from lib.score.runs import Run
from lib.task.attributes import Task

LIMITS = """\
- Learn and compete with these models. Do not judge, identify, admit, refuse or monitor any person
  with them. They guess from appearance, and their errors depend on the person.
- They know the classes of their task and no others, and the kind of photos that they were trained
  on. Other cameras, places or people need a test of their own.
- Scores are of people who were validated, each by a model that had not seen them. The best epoch
  was chosen on the same people, so scores are a little optimistic."""
DEMONSTRATION = (
    "**These are demonstration data** (synthetic people, or the digits of scikit-learn), made by "
    "`lib.demo`: the scores show that the workflow runs, and say nothing about real photos."
)


def write(
    folder: Path,
    facts: Mapping,
    members: Mapping[str, Run],
    oof: Tables,
    task: Task,
    between: Between,
) -> None:
    """Write README.md; ``oof`` are the out-of-fold tables of the runs, seen through the TTA."""
    sections = [
        f"# Submission {facts['submission']}",
        _what(facts, task),
        "## How to use it\n\n" + _use(folder, task),
        "## What it was trained on\n\n" + _training(members),
        "## Scores\n\n" + _scores(facts, oof, task, between),
        "## What it must not be used for\n\n" + LIMITS,
    ]
    if facts["slim"]["way"]:
        sections.insert(-1, "## Fewer models\n\n" + _slim(facts, task))
    artefacts.write_text("\n\n".join(sections) + "\n", folder / "README.md")


def _what(facts: Mapping, task: Task) -> str:
    models = sum(len(paths) for paths in facts["checkpoints"].values())
    named = ", ".join(f"`{run}`" for run in facts["runs"])
    classes = "; ".join(f"{name}: {', '.join(task.classes(name))}" for name in task.names)
    return (
        f"Models: {models}, of the runs {named}. They predict from a photo: {classes}. Views: "
        f"`{facts['tta']}`, vote: `{facts['vote']}`, {_steps(facts)}. They "
        f"reproduce the file with SHA-256 `{facts['sha256']}`"
        + (", but for the answers that fewer models change." if facts["slim"]["way"] else ".")
        + _finals(facts["finals"])
    )


def _finals(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f" Final runs, trained on everyone: {', '.join(names)}. No score here knows of them."


def _steps(facts: Mapping) -> str:
    names = ("calibrate", "group_test", "decision")
    return ", ".join(f"{name}: `{facts[name]}`" for name in names)


def _use(folder: Path, task: Task) -> str:
    return (
        "In this folder, without network:\n\n"
        "    python -m lib.package.infer --photos FOLDER --sample CSV --out submission.csv\n\n"
        f"CSV lists the photos in its column `{task.answer.columns[0]}`; without it, all photos of "
        f"FOLDER are predicted. Every file is first compared with `{manifest.FILE}`. Photos that "
        "cannot be read are answered by the shares of classes among the training photos, and "
        "listed; `--strict` refuses them."
    )


def _training(members: Mapping[str, Run]) -> str:
    names = ["backbone", "image_size", "crop", "epochs", "loss", "init_from", "pseudo_labels"]
    rows = [
        {"run": name, **{key: run.params[key] for key in names}, **_people(run)}
        for name, run in members.items()
    ]
    folders = {run.params["data_dir"] for run in members.values()}
    told = [f"Photos of {', '.join(f'`{folder}`' for folder in sorted(folders))}."]
    if any((resolve(folder) / "private/params.json").exists() for folder in folders):
        told.append(DEMONSTRATION)
    more = "All parameters are in `runs/<run>/params.yaml`."
    return "\n\n".join([" ".join(told), _markdown(pd.DataFrame(rows)), more])


def _people(run: Run) -> dict:
    found = run.metrics()
    return {key: found[key] for key in ("people", "test_photos_used") if key in found}


def _scores(facts: Mapping, oof: Tables, task: Task, between: Between) -> str:
    whole, method = complete(oof, task), Method(facts["vote"], facts["decision"])
    if any(table.empty for table in whole.values()):
        return "Nobody was validated, so there are no scores."
    table = nested.estimate(whole, task, [method], facts["weights"], between)[method]
    named = {task.metric: "", **{f"{task.metric} of {name}": name for name in task.names}}
    rows = [_row(title, table, task, name) for title, name in named.items()]
    groups = {name: intervals.by_class(table, task, name).reset_index() for name in task.names}
    return "\n\n".join([
        f"Out-of-fold scores of all folds: {table['person'].nunique()} people (or photos, where no "
        "people are known). `low` and `high` are 95 % intervals of a bootstrap over people. What "
        "vote and decision learn from labels is learned from other people than those scored.",
        _markdown(pd.DataFrame(rows)),
        *(f"By {name}, F1 of each class:\n\n{_markdown(f1)}" for name, f1 in groups.items()),
    ])  # fmt: skip


def _row(title: str, table: pd.DataFrame, task: Task, name: str) -> dict:
    draws = intervals.samples({title: table}, task, name=name)
    value = metrics.summary(table, task)[name or task.metric]
    return {"score": title, "value": value, **intervals.interval(draws).iloc[0]}


def _slim(facts: Mapping, task: Task) -> str:
    found = dict(facts["slim"])
    kept = {run: list(paths) for run, paths in facts["checkpoints"].items()}
    lines = [
        f"`--slim {found.pop('way')}` kept of each run: {kept}. The scores above are those of "
        "**all** folds. A soup was trained on everyone, so it has no out-of-fold score. The best "
        "folds were chosen by the people that each has validated, other people for each fold: "
        "such a choice is mostly luck. A greedy soup was chosen by the answers that score it "
        "here, so its score is too good.",
        f"Test photos whose answer changes: {100 * found.pop('answers changed'):.1f} %.",
    ]
    given = f"{task.metric} on the test photos with answers"
    return "\n\n".join(lines + [f"{given}, {name}: {score:.4f}" for name, score in found.items()])


def _markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown, numbers with three digits."""
    texts = table.map(lambda value: f"{value:.3f}" if isinstance(value, float) else str(value))
    rows = [list(map(str, table.columns)), ["---"] * len(table.columns), *texts.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)
