"""facefold: from photos of faces to mask, gender and age group, a module an idea.

Nothing is fetched from the network by importing this package or anything in it.
"""

import gc
import os
import warnings
from pathlib import Path

from lib import allocator

PROJECT = Path(__file__).resolve().parents[1]  # the folder that relative paths start from

# albumentations asks the network for a newer release while it is imported unless this is set first.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

# Threads that wait for one another sleep instead of spinning: beside any other busy process a step is half as long again
# without this, and on two cores the loader does not share its core with a thread that only waits.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Bars are plain text, in notebooks and headless alike: tqdm need not ask for notebook widgets.
warnings.filterwarnings("ignore", message="IProgress not found")

# Imports leave a million objects that stay: searching them for garbage again and again took a tenth of a notebook's start.
gc.set_threshold(50_000, 10, 10)

allocator.keep_freed()
