"""Agents: planner, scheduler and deployers that decide through a language model's replies.

An agent is its view, its templates, its reply model and its check; ``step.py`` is the one mechanism
that makes a decision of them (design: docs/decisions/004-agents.md).
"""
