"""Wiring: puts the parts of a run together. The twin in ``twin``, the agents in ``agents``."""
