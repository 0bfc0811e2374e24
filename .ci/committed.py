"""A filter of git: a notebook as it is committed, without outputs and what JupyterLab adds.

Reads a notebook from the standard input and writes it to the standard output; CONTRIBUTING.md says
how to tell git. Kept are the sources, the cells' ids and their tags.
"""

import json
import sys

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def cleaned(notebook: dict) -> dict:
    """Return a notebook with the parts that are committed."""
    cells = [_cleaned_cell(cell) for cell in notebook["cells"]]
    return {**notebook, "cells": cells, "metadata": {"kernelspec": KERNEL}}


def _cleaned_cell(cell: dict) -> dict:
    tags = {key: value for key, value in cell["metadata"].items() if key == "tags" and value}
    empty = {"execution_count": None, "outputs": []} if cell["cell_type"] == "code" else {}
    return {**cell, **empty, "metadata": tags}


if __name__ == "__main__":
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    json.dump(cleaned(json.load(sys.stdin)), sys.stdout, indent=1, ensure_ascii=False)
    print()
