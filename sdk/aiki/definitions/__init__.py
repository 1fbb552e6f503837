"""What users declare: tasks, workflows and their versions, events.

Definitions are values. They are made when the user's module is imported, live as long as the process, and do no I/O.
"""
