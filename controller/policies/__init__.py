"""Planners, schedulers and deployers: functions of the observed state and their own memory."""
