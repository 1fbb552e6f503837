"""How runs, timelines and values look in a terminal, and the one place through which everything is printed."""
