"""Who may reach what: with which credentials the workers of a namespace reach Redis, and nothing of another namespace."""
