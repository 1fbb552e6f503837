"""The server's settings from environment and options, and the server."""

from __future__ import annotations

import os

from aiki.cli.exit_codes import Exit, Failure
from aiki.protocol import explained_at
from aiki_server import logs
from aiki_server.main import serve as serve_forever
from aiki_server.settings import Settings, SettingsError, log_level


def serve(*, host: str, port: int, insecure: bool) -> None:
    """Serve until a signal says to stop."""
    environment = {**os.environ, "AIKI_HOST": host, "AIKI_PORT": str(port)}
    try:
        logs.configure(log_level(environment))
        settings = Settings.from_environment(environment, insecure=insecure)
    except SettingsError as error:
        raise Failure(Exit.USAGE, str(error), "`aiki dev` needs no settings.", link=explained_at("SettingsError")) from error
    serve_forever(settings)
