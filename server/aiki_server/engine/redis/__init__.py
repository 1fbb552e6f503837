"""Redis, which may lose everything at any time: whether it can be used, what its keys are called, what is told and heard through it."""
