"""Starts a program that must not outlive its parent: `python die_with_parent.py PARENT_PID SIGNAL USER PROGRAM ARG...`.

A parent that is killed cannot stop its children, so the kernel does (Linux: PR_SET_PDEATHSIG). That has to be asked for in
the child, after it has changed its user; doing it here, in a program of its own, needs no fork of a threaded parent.
Runs by its path, without the package: it imports nothing that is not in the standard library.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, signal: int, user: str, command: list[str]) -> None:
    """Become `user` ("" keeps the present one), ask for `signal` when `parent` ends, and turn into `command`."""
    if user:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal)
    if os.getppid() != parent:
        sys.exit("the parent ended before its child began")
    os.execv(command[0], command)  # noqa: S606  no shell is the point


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
