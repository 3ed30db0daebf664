"""Planners, schedulers and deployers: functions of what they are shown and their own memory."""
