"""Runs the functions of tasks, in the loop or in threads, and watches for code that blocks the loop."""
