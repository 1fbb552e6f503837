"""What all pods of ours have in common, and what a user's template may change in them."""
