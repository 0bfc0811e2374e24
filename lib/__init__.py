"""facefold: from photos of faces to mask, gender and age group, a module an idea.

Nothing is fetched from the network by importing this package or anything in it.
"""

import os
import warnings
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]  # the folder that relative paths start from

# albumentations asks the network for a newer release while it is imported unless this is set first.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

# Bars are plain text, in notebooks and headless alike: tqdm need not ask for notebook widgets.
warnings.filterwarnings("ignore", message="IProgress not found")
