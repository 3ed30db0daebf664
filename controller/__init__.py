"""edgelm: fair, fast serving of several large models on a small edge cluster."""

__version__ = "0.1.0"
