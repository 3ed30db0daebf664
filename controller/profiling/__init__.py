"""Profiling: measures an LM on the hardware at hand through its server's HTTP."""
