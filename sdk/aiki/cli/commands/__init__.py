"""The commands that users type, one file a group: each reads its arguments, opens a session, and prints."""
