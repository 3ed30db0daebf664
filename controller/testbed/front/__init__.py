"""Front door of a node: an OpenAI-compatible HTTP API, whose calls become requests of the run."""
