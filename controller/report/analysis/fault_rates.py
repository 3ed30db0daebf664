"""Strategies that differ by how often the reasoner's replies are spoilt on purpose."""

from __future__ import annotations

from controller.report.analysis.data import Data

Curve = dict[float, str]  # rate of faults -> strategy


def faulty(data: Data) -> dict[str, tuple[str, float]]:
    """Return strategy -> kinds of faults of its reasoner, and their rate together."""
    found = {}
    for strategy in data.agents():
        reasoner = data.experiment(strategy).get("reasoner") or {}
        if reasoner.get("kind") == "faulty":
            parts = [part.partition("=") for part in reasoner["faults"].split(",")]
            rate = sum(float(share) if sign else 0.1 for _, sign, share in parts)
            found[strategy] = ("+".join(kind for kind, _, _ in parts), rate)
    return found


def fault_curves(data: Data) -> dict[str, Curve]:
    """Return a curve per strategy and mix of faults, of two rates or more. A variant without
    faults is every mix's zero; where every reply is spoilt only fallbacks decide."""
    spoilt, curves = faulty(data), dict[str, Curve]()
    sound = {data.family(s): s for s in data.agents() if s not in spoilt}
    for strategy, (kinds, rate) in spoilt.items():
        name = data.family(strategy)
        curve = curves.setdefault(f"{name}, {kinds}", {})
        curve[rate] = strategy
        if name in sound and rate < 1:
            curve.setdefault(0.0, sound[name])
    return {name: curve for name, curve in curves.items() if len(curve) > 1}
