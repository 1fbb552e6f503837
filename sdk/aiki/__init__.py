"""Durable execution in plain Python."""
