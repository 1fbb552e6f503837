"""What workflow and task code has in its hand: the run with its log, state and sagas; in a task, the context of the attempt.

Also the signals that cross this code untouched. Nothing here runs code: the execution makes a `Run` and gives it to the code.
"""
