"""Stores: where telemetry is kept. The embedded SQLite store is the default."""
