"""`python -m aiki.cli`, for where the console script is not on the path."""

from __future__ import annotations

from aiki.cli import main

main()
