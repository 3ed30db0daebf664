"""Frozen types and pure arithmetic. Imports nothing of edgelm but itself."""
