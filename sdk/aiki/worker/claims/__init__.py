"""Which runs this worker gets: it polls for them while it has free slots, and finds those whose grant it never heard of."""
