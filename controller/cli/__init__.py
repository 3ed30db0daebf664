"""The command ``edgelm``: parse, call, format. Everything heavy is imported by the command that
needs it, so that help is instant."""

# Importing a module of commands registers them, in the order of the help.
from controller.cli import campaigns, planning, files, testbed, condition, models  # isort: skip
from controller.cli import bringup, manifests  # isort: skip
from controller.cli import profiling, calibration, history, bench, reasoner, traces  # isort: skip
from controller.cli.app import app, main

__all__ = [
    "app",
    "bench",
    "bringup",
    "calibration",
    "campaigns",
    "condition",
    "files",
    "history",
    "main",
    "manifests",
    "models",
    "planning",
    "profiling",
    "reasoner",
    "testbed",
    "traces",
]
