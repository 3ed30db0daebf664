"""Weights of the LMs: made for tests, fetched from the hub, checked before a server loads them."""
