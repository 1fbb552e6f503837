"""What every test may ask for: the fixtures live in plugins beside this file, one idea each.

`plugin_stack` starts Postgres, Valkey and the server from the wheels, once per pytest process.
"""

from __future__ import annotations

from importlib.util import find_spec

pytest_plugins = [name for name in ("plugin_stack", "plugin_workers") if find_spec(name)]
