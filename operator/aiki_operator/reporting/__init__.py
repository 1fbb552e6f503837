"""What the operator says, and to whom: conditions for people, logs and metrics, errors in plain words, and never a secret."""
