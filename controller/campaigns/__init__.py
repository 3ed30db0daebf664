"""Campaigns: a file becomes a grid of experiments, and a pool of processes makes their runs."""
