"""The calls of a run: what the code asked for, how it is found in the history, what came in for it, and what it waits for."""
