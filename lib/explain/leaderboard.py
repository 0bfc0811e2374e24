"""Whether the leaderboard's scores follow the out-of-fold scores.

A line is fitted through all submissions that have both scores. From three points on they part when
the line does not rise; from four on also when a submission is an outlier: its studentised deleted
residual is beyond Student's t at 5 %, divided by the number of submissions (Bonferroni). Cook &
Weisberg, Residuals and influence in regression, 1982.
"""

import numpy as np
import pandas as pd
from scipy import stats

FEWEST = 3  # points through which a line says anything
RISK = 0.05  # of naming an outlier where there is none
FINEST = 1e-5  # scores are noted with five digits, so no residual is known better


def points(submissions: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the submissions that have both scores: ``oof_score``, ``column``, and on the line.

    ``line`` is what the regression expects, ``residual`` the leaderboard's score minus it, and
    ``outlier`` whether the rule above calls it one; all are empty below three points.
    """
    found = submissions.set_index("name")[["oof_score", column]].dropna().astype(float)
    empty = found.assign(line=np.nan, residual=np.nan, outlier=False)
    if len(found) < FEWEST or np.ptp(found["oof_score"]) < FINEST:
        return empty
    fit = stats.linregress(found["oof_score"], found[column])
    line = fit.intercept + fit.slope * found["oof_score"]
    residual = found[column] - line
    outlier = _outliers(found["oof_score"].to_numpy(), residual.to_numpy())
    return found.assign(line=line, residual=residual, outlier=outlier)


def _outliers(x: np.ndarray, residual: np.ndarray) -> np.ndarray:
    n = len(x)
    if n <= FEWEST:
        return np.zeros(n, bool)
    leverage = 1 / n + (x - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()
    free = 1 - leverage
    rest = (residual**2).sum() - residual**2 / free  # squares left without the point itself
    scale = np.sqrt(np.clip(rest, 0, None) / (n - 3)).clip(FINEST)
    return np.abs(residual) / (scale * np.sqrt(free)) > stats.t.ppf(1 - RISK / (2 * n), n - 3)


def told(submissions: pd.DataFrame, column: str) -> str:
    """Return in words whether the scores of ``column`` (public or private) follow out-of-fold."""
    found = points(submissions, column)
    if found.empty:
        return f"{column}: no scores yet; type them into column {column!r} of the ledger."
    if found["line"].isna().any():
        return (
            f"{column}: {len(found)} submissions have a score; a line needs at least {FEWEST} with "
            "different out-of-fold scores."
        )
    fit = stats.linregress(found["oof_score"], found[column])
    line = f"{column} = {fit.intercept:.3f} {fit.slope:+.3f} x out-of-fold, {len(found)} points"
    return f"{column}: {_warning(found, column, fit.slope)} ({line}, correlation {fit.rvalue:.2f})."


def _warning(found: pd.DataFrame, column: str, slope: float) -> str:
    if slope <= 0:
        return f"WARNING: they part, a better out-of-fold score did not mean a better {column} one"
    odd = found.index[found["outlier"]]
    if len(odd):
        return f"WARNING: they part for {', '.join(odd)}, far from the line of the others"
    return "the scores go together"
