"""Search for the worlds in which given facts hold: facts, sampler, analysis, page."""
