"""Every notebook and parameter file as it is committed: clean, parametrised, and thin."""

import ast
import io
import json
import statistics
import subprocess
import sys
import tokenize

import papermill
import pytest

from lib import PROJECT
from lib.data import folds, index
from lib.face import background, faces, geometry
from lib.learn import augment, heads, losses, mixers, models, precision, recipe, samplers, tracking
from lib.runner.parameters import NOTEBOOKS, declared
from lib.runner.stages import STAGES, notebook_of, plan, read_layer
from lib.score import decisions, ensemble, groups, predict

FILES = sorted(NOTEBOOKS.glob("*.ipynb"))
PARAMETER_FILES = [
    path
    for path in sorted((PROJECT / "params").rglob("*.yaml"))
    if path.parent.name not in ("tasks", "sweeps")
]
MISSING = [stage for stage in STAGES if not notebook_of(stage).is_file()]
every_notebook = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def sources(path, kind):
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def story_lines(path):
    """Return the lines of each code cell but the parameters."""
    cells = [cell for cell in code_cells(path) if not cell["metadata"].get("tags")]
    return ["".join(cell["source"]).splitlines() for cell in cells]


def parameter_lines(path):
    (cell,) = [
        cell for cell in code_cells(path) if "parameters" in cell["metadata"].get("tags", [])
    ]
    return [
        line
        for line in "".join(cell["source"]).splitlines()
        if line.strip() and not line.startswith("# ")
    ]


@every_notebook
def test_committed_without_outputs(path):
    assert all(
        cell["outputs"] == [] and cell["execution_count"] is None for cell in code_cells(path)
    )


@every_notebook
def test_what_jupyterlab_adds_is_not_committed(path):
    notebook = json.loads(path.read_text())
    notebook["metadata"]["kernelspec"]["display_name"] = "Python 3 (ipykernel)"
    notebook["metadata"]["language_info"] = {"name": "python", "version": "3.11.7"}
    for cell in notebook["cells"]:
        cell["metadata"]["jp-MarkdownHeadingCollapsed"] = True
        if cell["cell_type"] == "code":
            cell |= {"execution_count": 1, "outputs": [{"output_type": "stream", "text": "é"}]}
    command = [sys.executable, PROJECT / ".ci" / "committed.py"]
    saved = json.dumps(notebook).encode()
    done = subprocess.run(command, input=saved, capture_output=True, check=True)
    assert done.stdout == path.read_bytes()


@every_notebook
def test_metadata_is_the_kernel_and_little_else(path):
    notebook = json.loads(path.read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert "jupytext" not in notebook["metadata"]
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)


@every_notebook
def test_opens_with_its_title_then_the_parameters(path):
    first, second = json.loads(path.read_text())["cells"][:2]
    assert first["cell_type"] == "markdown"
    assert "".join(first["source"]).startswith("# ")
    assert "parameters" in second["metadata"]["tags"]


@every_notebook
def test_parameters_are_one_commented_literal_per_line(path):
    for line in parameter_lines(path):
        (node,) = ast.parse(line).body
        assert isinstance(node, ast.Assign), f"{line}: name = default, no annotation"
        assert ast.literal_eval(node.value) is not None, (
            f"{line}: None has no type to check against"
        )
        assert not isinstance(ast.literal_eval(node.value), tuple), (
            f"{line}: papermill hands a tuple over as text"
        )
        (comment,) = [
            t.string
            for t in tokenize.generate_tokens(io.StringIO(line).readline)
            if t.type == tokenize.COMMENT
        ]
        assert comment.strip("# ")
        assert line.count("=") == 1, f"{line}: papermill overlooks a line with two equals signs"


@every_notebook
def test_papermill_sees_the_same_parameters(path):
    seen = {
        name: ast.literal_eval(found["default"])
        for name, found in papermill.inspect_notebook(path).items()
    }
    assert seen == {name: parameter.default for name, parameter in declared(path).items()}


@every_notebook
def test_defines_nothing(path):
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for cell in code_cells(path):
        assert not [
            node.name
            for node in ast.walk(ast.parse("".join(cell["source"])))
            if isinstance(node, definitions)
        ]


# What was measured in notebooks that people like to read


def test_code_cells_are_short():
    lengths = [len(lines) for path in FILES for lines in story_lines(path)]
    assert statistics.median(lengths) <= 4


@every_notebook
def test_no_code_cell_is_long(path):
    assert max(len(lines) for lines in story_lines(path)) <= 15


@every_notebook
def test_nearly_half_of_the_words_are_prose(path):
    words = {kind: len(" ".join(sources(path, kind)).split()) for kind in ("markdown", "code")}
    assert words["markdown"] / sum(words.values()) >= 0.45, words


@every_notebook
def test_first_code_cell_after_the_parameters_imports_and_checks(path):
    imports = "\n".join(story_lines(path)[0])
    assert f'parameters.collect("{path.stem}", globals())' in imports.splitlines()[-1]
    assert isinstance(ast.parse(imports).body[0], (ast.Import, ast.ImportFrom))


# Choices

CHOICES = {
    "00_demo_data": {"layout": index.LAYOUTS},
    "01_eda": {"layout": index.LAYOUTS},
    "02_face_crop": {
        "detector": faces.DETECTORS,
        "crop": geometry.CROPS,
        "background": background.BACKGROUNDS,
    },
    "03_train": {
        "crop": geometry.CROPS,
        "background": background.BACKGROUNDS,
        "split": folds.SPLITS,
        "augment": augment.PIPELINES,
        "mixer": mixers.MIXERS,
        "head": heads.HEADS,
        "ordered_head": heads.ORDERED_CHOICES,
        "loss": losses.LOSSES,
        "class_weights": heads.CLASS_WEIGHTS,
        "sampler": samplers.SAMPLERS,
        "schedule": recipe.SCHEDULES,
        "freeze": models.FREEZES,
        "precision": precision.CHOICES,
        "tracker": tracking.TRACKERS,
    },
    "04_ensemble_tta": {
        "vote": ensemble.WAYS,
        "decision": decisions.DECISIONS,
        "group_test": groups.GROUPINGS,
        "tta": predict.VIEWS,
        "compare_tta": [view for view in predict.VIEWS if view != "none"],
    },
    "05_error_analysis": {"vote": (*ensemble.VOTES, "stacked"), "tta": predict.VIEWS},
    "09_study": {"tta": [view for view in predict.VIEWS if view != "none"]},
}


@every_notebook
def test_choices_are_the_names_that_the_code_knows(path):
    listed = {name: set(each.choices) for name, each in declared(path).items() if each.choices}
    assert listed == {name: set(names) for name, names in CHOICES.get(path.stem, {}).items()}


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in MISSING])
def test_executed_copy_has_a_place(stage):
    defaults = {name: parameter.default for name, parameter in declared(notebook_of(stage)).items()}
    assert STAGES[stage].copy.format(**defaults)


@pytest.mark.skipif(bool(MISSING), reason=f"no notebook yet for {', '.join(MISSING)}")
@pytest.mark.parametrize("path", PARAMETER_FILES, ids=lambda path: path.stem)
def test_parameter_file_passes_the_check(path):
    assert plan([read_layer(path)])


@pytest.mark.parametrize("path", PARAMETER_FILES, ids=lambda path: path.stem)
def test_parameter_file_says_what_it_is(path):
    assert path.read_text().startswith("# ")
