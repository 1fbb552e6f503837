"""Replay and memoization: the pure core that runs workflow code, one activation at a time.

`execution.py` is the algorithm. `journal.py` is what was recorded, `batch.py` what is to be written; `calls/` is what the code asked for,
`loop/` the event loop that it runs on; `outcome.py` and `outcomes.py` are what the worker is told. No clock, no randomness, no I/O.
"""
