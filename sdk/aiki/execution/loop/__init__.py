"""The event loop that workflow code runs on, with the tasks, futures and signals that only exist there."""
