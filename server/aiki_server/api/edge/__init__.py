"""Everything before a handler: who asks, from where, and which route it is."""
