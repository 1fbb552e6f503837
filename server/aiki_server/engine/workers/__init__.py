"""Which workers there are, what they carry, how loaded their pools are, and when the operator must hear of it at once."""
