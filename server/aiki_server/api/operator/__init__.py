"""For the operator, and for people who look after pools: loads, builds, drains."""
