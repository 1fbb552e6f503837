"""Postgres and Valkey from wheels on this machine, for `aiki dev`, the tests and the benchmarks; no server in production imports it.

`running` starts both in a folder and ends them again: the one thing that others need to know of it.
"""

from aiki_server.local.stack import Stack, running

__all__ = ["Stack", "running"]
