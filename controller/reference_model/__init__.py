"""The reference reasoner: a local server that speaks OpenAI's chat completions and answers agents
with SOLVER's optimisation, from what is in the prompt and nothing else.

It is an optimiser, not a language model; whatever it decides is labelled so.
"""
