"""For applications and people: start runs, read them, act on them."""
