"""Planners, schedulers and deployers: pure functions of what they are shown, plus their own memory."""
