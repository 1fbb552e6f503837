"""`aiki dev`: the whole system in one command, in one folder, gone with Ctrl-C."""
