"""Values that every layer of the server knows: rows and keys, instants and ids, the operations on a run, the entries of its history.

No I/O and no decision: the lowest layer, so that API, engine and store speak of the same things without importing each other.
"""
