"""From what is wanted and what is there to what is to be done: pure functions, `server/` and `pool/` for the two custom resources."""
