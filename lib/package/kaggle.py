"""What Kaggle's command line needs: metadata of a data set and of a notebook, and the notebook.

The fields are those of github.com/Kaggle/kaggle-api (docs/datasets_metadata.md and
docs/kernels_metadata.md). Words in capitals are for the user to write.
"""

import re
from pathlib import Path

from lib import artefacts
from lib.errors import ParameterError

USER = "INSERT_USERNAME"
COMPETITION = "INSERT_COMPETITION"
NOTEBOOK = "inference.ipynb"


def write(folder: Path, name: str) -> None:
    """Write the metadata, and the notebook into ``folder/kernel``."""
    title = f"facefold {re.sub('[^a-z0-9]+', ' ', name.lower()).strip()}"
    if not 6 <= len(title) <= 41:  # Kaggle takes titles of at most 50, and the notebook's is longer
        raise ParameterError(f"submission {name!r}: its name must have at most 32 letters")
    slug = title.replace(" ", "-")
    artefacts.write_json(dataset(title, slug), folder / "dataset-metadata.json")
    artefacts.write_json(kernel(title, slug), folder / "kernel" / "kernel-metadata.json")
    artefacts.write_text(notebook(slug, name), folder / "kernel" / NOTEBOOK)


def dataset(title: str, slug: str) -> dict:
    """Return dataset-metadata.json."""
    return {"title": title, "id": f"{USER}/{slug}", "licenses": [{"name": "other"}]}


def kernel(title: str, slug: str) -> dict:
    """Return kernel-metadata.json of a private notebook without network."""
    return {
        "id": f"{USER}/{slug}-predict",
        "title": f"{title} predict",
        "code_file": NOTEBOOK,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_internet": False,
        "dataset_sources": [f"{USER}/{slug}"],
        "competition_sources": [COMPETITION],
        "kernel_sources": [],
        "model_sources": [],
    }


def notebook(slug: str, name: str) -> str:
    """Return the notebook of inference, with the names of the data set and the submission."""
    template = (Path(__file__).with_name(NOTEBOOK)).read_text("utf-8")
    return template.replace("INSERT_SLUG", slug).replace("INSERT_SUBMISSION", name)
