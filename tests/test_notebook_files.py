"""Every notebook and parameter file as it is committed: clean, parametrised, and thin."""

import ast
import io
import json
import tokenize

import papermill
import pytest

from lib.runner.parameters import declared
from lib.runner.run import PROJECT
from lib.runner.stages import NOTEBOOKS, STAGES, notebook_of, plan, read_layer

FILES = sorted(NOTEBOOKS.glob("*.ipynb"))
PARAMETER_FILES = sorted((PROJECT / "params").rglob("*.yaml"))
MISSING = [stage for stage in STAGES if not notebook_of(stage).is_file()]
every_notebook = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def parameter_lines(path):
    (cell,) = [cell for cell in code_cells(path) if "parameters" in cell["metadata"].get("tags", [])]
    return [line for line in "".join(cell["source"]).splitlines() if line.strip() and not line.startswith("# ")]


@every_notebook
def test_committed_without_outputs(path):
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code_cells(path))


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
def test_parameters_are_one_commented_literal_a_line(path):
    for line in parameter_lines(path):
        (node,) = ast.parse(line).body
        assert isinstance(node, ast.Assign), f"{line}: name = default, no annotation"
        assert ast.literal_eval(node.value) is not None, f"{line}: None has no type to check against"
        assert not isinstance(ast.literal_eval(node.value), tuple), f"{line}: papermill hands a tuple over as text"
        (comment,) = [t.string for t in tokenize.generate_tokens(io.StringIO(line).readline) if t.type == tokenize.COMMENT]
        assert comment.strip("# ")
        assert line.count("=") == 1, f"{line}: papermill overlooks a line with two equals signs"


@every_notebook
def test_papermill_sees_the_same_parameters(path):
    seen = {name: ast.literal_eval(found["default"]) for name, found in papermill.inspect_notebook(path).items()}
    assert seen == {name: parameter.default for name, parameter in declared(path).items()}


@every_notebook
def test_defines_nothing(path):
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for cell in code_cells(path):
        assert not [node.name for node in ast.walk(ast.parse("".join(cell["source"]))) if isinstance(node, definitions)]


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
