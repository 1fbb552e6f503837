"""Which worker gets which run: routes for new runs, claims, and the share that a roll-out gives to a new build."""
