"""What keeps one namespace from holding up the others: quotas, shares of the loop, turns at what is large."""
