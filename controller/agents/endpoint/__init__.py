"""A model behind an OpenAI-compatible server, as a Reasoner."""
