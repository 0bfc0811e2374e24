"""One look for all figures, set once per notebook."""

import seaborn as sns

PALETTE = "cividis"  # keeps its order in grey


def set_style() -> None:
    """Set seaborn's theme, a readable font size and the resolution of all figures from here on."""
    titles = {"axes.titleweight": "bold", "axes.titlelocation": "left"}
    figures = {"figure.dpi": 90, "figure.constrained_layout.use": True}
    texts = {"text.parse_math": False}  # a $ in the name of a file is a $
    look = {"context": "notebook", "style": "whitegrid", "palette": PALETTE}
    sns.set_theme(**look, rc=titles | figures | texts)
