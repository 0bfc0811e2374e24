"""One look for all figures, set once per notebook."""

import seaborn as sns
from matplotlib.axis import Axis
from matplotlib.ticker import NullFormatter

PALETTE = "cividis"  # keeps its order in grey


def set_style() -> None:
    """Set seaborn's theme, a readable font size and the resolution of all figures from here on."""
    titles = {"axes.titleweight": "bold", "axes.titlelocation": "left"}
    figures = {"figure.dpi": 90, "figure.constrained_layout.use": True}
    texts = {"text.parse_math": False}  # a $ in the name of a file is a $
    look = {"context": "notebook", "style": "whitegrid", "palette": PALETTE}
    sns.set_theme(**look, rc=titles | figures | texts)


def log_ticks(axis: Axis) -> None:
    """Write the ticks of a logarithmic axis as plain numbers; matplotlib's own are mathematics.

    Below a decade, where there may be no other tick, the minor ones are written too.
    """
    low, high = axis.get_view_interval()
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("{x:g}" if high < 10 * low else NullFormatter())
