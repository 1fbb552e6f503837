"""Carries out what plans say: objects, statuses and events, written only where something changed, and not over and over."""
