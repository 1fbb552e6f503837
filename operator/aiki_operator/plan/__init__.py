"""From what is wanted and what is there to what is to be done: pure functions, one for each custom resource."""
