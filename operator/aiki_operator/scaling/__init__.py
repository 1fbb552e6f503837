"""How large a pool should be: a pure decision from its load, and a simulator that replays it on a trace."""
