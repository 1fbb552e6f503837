"""Observe, plan, write, repeat: the shell around the pure plans. `loop.py` turns once a second, `server.py` and `pool.py` are one turn each."""
