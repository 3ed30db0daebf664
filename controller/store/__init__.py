"""Stores of telemetry. The embedded SQLite store is the default."""
