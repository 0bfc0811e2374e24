"""One look for all figures: set once a notebook."""

import seaborn as sns

PALETTE = "cividis"  # keeps its order in grey


def set_style() -> None:
    """Set seaborn's theme, a readable font size and the figure resolution for everything drawn afterwards."""
    sns.set_theme(
        context="notebook",
        style="whitegrid",
        palette=PALETTE,
        rc={"figure.dpi": 90, "axes.titleweight": "bold", "axes.titlelocation": "left", "figure.constrained_layout.use": True},
    )
