"""Run one notebook in a kernel of its own, and keep its executed copy and HTML.

papermill and nbconvert are imported when the first notebook starts, so that ``--check`` is fast.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from lib import PROJECT
from lib.runner import finished
from lib.runner.stages import Step

# nbconvert's own page fetches scripts (require.js, MathJax, Mermaid), and cuts off wide code.
PAGE = """\
{% extends "lab/index.html.j2" %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block html_head_css %}
<style>.jp-OutputArea-output, .jp-InputArea-editor .highlight { overflow-x: auto }</style>
{% endblock %}
"""


class StageError(RuntimeError):
    """A notebook stopped at an error of its own; ``reason`` says which in one line."""

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


def prepare(folder: str) -> None:
    """Let kernels inherit that ``python3`` is this Python, and that ``import lib`` works in it.

    Another python3 on JUPYTER_PATH would win over the one of this environment.
    """
    from ipykernel.kernelspec import write_kernel_spec

    write_kernel_spec(f"{folder}/kernels/python3")
    for name, first in {"JUPYTER_PATH": folder, "PYTHONPATH": str(PROJECT)}.items():
        os.environ[name] = os.pathsep.join(filter(None, [first, os.environ.get(name)]))
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # no warning about frozen modules


def execute(step: Step, copy: str) -> Path:
    """Run one notebook, keep its executed copy and HTML; return the path of the HTML.

    ``copy`` is the copy's path without suffix. Meanwhile it is in a hidden folder named after this
    process, and it stays as ``<copy>.failed.ipynb`` when a cell raises. What the kernel prints,
    progress bars included, is shown on stderr.
    """
    from nbclient.exceptions import DeadKernelError
    from papermill import execute_notebook
    from papermill.exceptions import PapermillExecutionError

    from lib.artefacts import full_disk_told, remove_leftovers, resolve, temporary_name

    done, failed = resolve(f"{copy}.ipynb"), resolve(f"{copy}.failed.ipynb")
    running = temporary_name(done) / done.name
    running.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(done.parent)
    key = finished.key(step)  # of what is there now: files that change meanwhile count as changed
    options = {
        "kernel_name": "python3",
        "progress_bar": False,
        "stdout_file": sys.stderr,
        "stderr_file": sys.stderr,
        "coalesce_streams": True,
        "extra_arguments": ["--log-level=CRITICAL"],  # ipykernel warns of TCP at each start
    }
    try:
        with full_disk_told(done):
            execute_notebook(step.notebook, running, step.values, cwd=PROJECT, **options)
            failed.unlink(missing_ok=True)
            return _store(running, done, key)
    except (PapermillExecutionError, DeadKernelError) as error:
        running.replace(failed)
        place, reason = f"see {shown(failed)}", _reason(error)
        message = "\n".join([f"{step.stage} failed, {place}", *_calls(error), reason])
        line = reason.partition("\n")[0]
        raise StageError(message, f"{step.stage}: {line} ({place})") from None
    finally:
        shutil.rmtree(running.parent)


def _calls(error: Any) -> list[str]:
    """Return the failing cell's line and the calls below it, without colours."""
    frames = "\n".join(getattr(error, "traceback", []))
    lines = re.sub(r"\x1b\[[\d;]*m", "", frames).splitlines()
    calls = [line for line in lines if re.match(r"Cell In|File |-+> ", line)]
    return [*calls[:2], *calls[2:][-4:]]


def _reason(error: Any) -> str:
    if not hasattr(error, "traceback"):
        return (
            "The kernel died, most often because memory ran out: smaller batches, smaller photos "
            "or fewer workers help."
        )
    return f"{error.ename}: {error.evalue}"


def _store(running: Path, done: Path, key: str) -> Path:
    """Write the HTML of an executed notebook, give the notebook its final name; return the HTML."""
    from nbconvert import HTMLExporter

    from lib.artefacts import write_text

    _complete(running, done, key)
    html = done.with_suffix(".html")
    resources = {"metadata": {"name": done.stem}}
    text, _ = HTMLExporter(raw_template=PAGE).from_filename(str(running), resources=resources)
    write_text(text, html)
    running.replace(done)
    return html


def _complete(path: Path, done: Path, key: str) -> None:
    """Note final name and key in a copy; remove the white space that ended progress bars leave."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        outputs = cell.get("outputs", [])
        outputs[:] = [out for out in outputs if "".join(out.get("text", "shown")).strip()]
    notebook["metadata"][finished.KEY] = key
    notebook["metadata"]["papermill"]["output_path"] = str(done)
    path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def shown(path: Path) -> Path:
    """Return a path from the project's folder, where it is inside."""
    return path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path
