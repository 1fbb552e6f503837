"""The Aiki operator."""
