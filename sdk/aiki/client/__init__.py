"""The way into a server over HTTP: start runs, talk to them, wait for their results."""

from __future__ import annotations

from aiki.client.client import Client, Start
from aiki.client.handle import RunHandle

__all__ = ["Client", "RunHandle", "Start"]
