"""Telemetry of the testbed: names of metrics, scraping, history, GPU accounting and traces. Only
figures and names, never contents of prompts or results."""
