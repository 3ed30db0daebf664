"""The paper's figures of merit, Eq. 5, 6 and 8-10, as pure functions.

Edge cases, decided once: a type without arrivals has no rate and takes no part in the fairness
index; no success at all makes the mean latency as bad as it can be (T_norm = 1); all rates zero is
the worst fairness (F = 1/K over K types with a rate, F_norm = 0), since nobody is served; one type,
or none, is fair (F = F_norm = 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def service_rates(successes: ArrayLike, arrivals: ArrayLike) -> Floats:
    """Return rho_i = S_i / A_i (Eq. 5), shape (I,); NaN where nothing arrived.

    Raises:
        ValueError: more successes than arrivals, or negative counts.
    """
    s, a = np.asarray(successes, np.float64), np.asarray(arrivals, np.float64)
    if np.any(s < 0) or np.any(s > a):
        raise ValueError(f"successes {s} must lie between 0 and arrivals {a}")
    rates: Floats = np.divide(s, a, out=np.full(s.shape, np.nan), where=a > 0)
    return rates


def jain(rates: ArrayLike) -> float:
    """Return Jain's index F (Eq. 6) over the K types that have a rate, in [1/K, 1]; 1 if K = 0."""
    rho = _present(rates)
    total, squares = float(rho.sum()), float((rho**2).sum())
    if len(rho) == 0:
        return 1.0
    if squares == 0.0:
        return 1.0 / len(rho)
    return total**2 / (len(rho) * squares)


def normalised_jain(rates: ArrayLike) -> float:
    """Return F_norm (Eq. 8), in [0, 1]; 1 for one type or none."""
    types = len(_present(rates))
    if types <= 1:
        return 1.0
    return min(1.0, max(0.0, (jain(rates) - 1 / types) / (1 - 1 / types)))


def normalised_latency(latencies_s: ArrayLike, tau_s: float) -> float:
    """Return T_norm (Eq. 9): mean latency of the successes over the deadline; 1 without success.

    Raises:
        ValueError: tau_s is not positive.
    """
    if not tau_s > 0:
        raise ValueError(f"the deadline tau must be positive, not {tau_s}")
    latencies = np.asarray(latencies_s, np.float64)
    return float(latencies.mean()) / tau_s if latencies.size else 1.0


def objective(t_norm: float, f_norm: float, lam: float = 0.5) -> float:
    """Return lambda T_norm + (1 - lambda)(1 - F_norm) (Eq. 10), to be minimised.

    Raises:
        ValueError: lam is outside [0, 1].
    """
    if not 0 <= lam <= 1:
        raise ValueError(f"lambda must lie in [0, 1], not {lam}")
    return lam * t_norm + (1 - lam) * (1 - f_norm)


def _present(rates: ArrayLike) -> Floats:
    rho = np.asarray(rates, np.float64)
    return rho[~np.isnan(rho)]
