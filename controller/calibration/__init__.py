"""Calibration: from observed runs to a profile and a testbed, and how far the twin is from them."""
