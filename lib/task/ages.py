"""Four ways for a model to speak of age, each cut into the three groups afterwards by summing years.

``groups`` is three classes. The others learn years: ``years`` a distribution (DEX, Rothe et al. 2018, IJCV 126;
label distribution learning, Geng 2016), ``ordinal`` a chain of "older than this year?" (discrete hazard; conditional
training as in CORN, Shi et al. 2021, arXiv 2111.08851), ``regression`` a normal distribution (Nix & Weigend 1994).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.task.labels import YEARS, YOUNG_UNTIL, check_old_from
from lib.task.targets import year_groups

CENTRE, SPREAD = 39.0, 12.0  # years; regression learns ages from here in these units, so that its outputs start near 0 and 1
NEIGHBOUR_YEARS = 2.0  # standard deviation, in years, of the soft neighbours a recorded year is given


def neighbour_kernel(deviation: float = NEIGHBOUR_YEARS) -> Tensor:
    """Return (43, 43): row y is a normal distribution around year y over 18..60, summing to 1."""
    years = torch.as_tensor(YEARS, dtype=torch.float32)
    return torch.softmax(-((years[:, None] - years) ** 2) / (2 * deviation**2), dim=1)


def years_loss(logits: Tensor, years: Tensor) -> Tensor:
    """Cross-entropy of logits (N, 43) with the year distribution (N, 43) softened over its neighbours."""
    return F.cross_entropy(logits, years @ neighbour_kernel().to(years))


def years_groups(logits: Tensor, old_from: int) -> Tensor:
    """Return group probabilities (N, 3) of year logits (N, 43)."""
    return logits.softmax(1) @ year_groups(old_from).to(logits)


def ordinal_loss(logits: Tensor, years: Tensor) -> Tensor:
    """Negative log-likelihood of years (N, 43) under the hazard chain; logits (N, 42): older than year k, having reached it."""
    reached = years.flip(1).cumsum(1).flip(1)
    older, stayed = reached[:, 1:], years[:, :-1]
    return -(older * F.logsigmoid(logits) + stayed * F.logsigmoid(-logits)).sum(1).mean()


def ordinal_groups(logits: Tensor, old_from: int) -> Tensor:
    """Return group probabilities (N, 3) of chain logits (N, 42)."""
    survival = F.logsigmoid(logits).cumsum(1).exp()
    return _between(survival[:, YOUNG_UNTIL - YEARS[0] - 1], survival[:, check_old_from(old_from) - YEARS[0] - 1])


def regression_loss(outputs: Tensor, years: Tensor) -> Tensor:
    """Gaussian negative log-likelihood of the mean year of (N, 43); outputs (N, 2): mean, log variance, in SPREADs."""
    mean_year = years @ torch.as_tensor(YEARS, dtype=years.dtype, device=years.device)
    mean, log_variance = outputs.unbind(1)
    return F.gaussian_nll_loss(mean, (mean_year - CENTRE) / SPREAD, log_variance.exp())


def regression_groups(outputs: Tensor, old_from: int) -> Tensor:
    """Return group probabilities (N, 3) of a normal age: a recorded year y stands for ages from y - 0.5 on."""
    mean, log_variance = outputs.unbind(1)
    older_than = [
        torch.special.ndtr((mean - (cut - 0.5 - CENTRE) / SPREAD) / (log_variance / 2).exp())
        for cut in (YOUNG_UNTIL, check_old_from(old_from))
    ]
    return _between(*older_than)


def _between(from_young_cut: Tensor, from_old_cut: Tensor) -> Tensor:
    return torch.stack([1 - from_young_cut, from_young_cut - from_old_cut, from_old_cut], dim=1)
