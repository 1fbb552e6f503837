"""The outside world, part two: a table of users, and the way to the mail server.

Nothing here knows of Aiki. Every write says by which key it was made, so that doing it twice changes nothing, and
leaves a line in `effects`, so that doing it twice would show.
"""

from __future__ import annotations

import os
import smtplib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path

DATABASE = Path(os.environ.get("ONBOARDING_DATABASE", "users.sqlite"))
SMTP_PORT = int(os.environ.get("ONBOARDING_SMTP_PORT", "2525"))
SPEED = float(os.environ.get("AIKI_DEMO_SPEED", "1"))
"""How many times faster than life the waits are: 5760 makes a day 15 seconds long."""

SCHEMA = """
create table if not exists users (id text primary key, email text not null, state text not null, reason text);
create table if not exists effects (what text not null, email text not null, key text not null);
"""


def pace(span: timedelta) -> timedelta:
    """A span of the real process, as long as the demo has patience for."""
    return span / SPEED


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """One transaction."""
    with closing(sqlite3.connect(DATABASE, timeout=10)) as connection:
        connection.executescript(SCHEMA)
        with connection:
            yield connection


def add_user(email: str, key: str) -> str:
    """Create the user, or find the one that this key has created."""
    user_id = f"user-{key[-12:]}"
    with database() as connection:
        connection.execute("insert into effects values ('profile', ?, ?)", (email, key))
        connection.execute("insert or ignore into users values (?, ?, 'new', null)", (user_id, email))
    return user_id


def set_state(user_id: str, state: str, key: str, reason: str | None = None) -> None:
    """Move the user on."""
    with database() as connection:
        connection.execute("insert into effects select ?, email, ? from users where id = ?", (state, key, user_id))
        connection.execute("update users set state = ?, reason = ? where id = ?", (state, reason, user_id))


def send_mail(to: str, subject: str, text: str, key: str) -> None:
    """Hand a mail to the server; the key becomes its Message-ID, by which mail systems drop duplicates."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"], mail["Message-ID"] = "hello@example.com", to, subject, f"<{key}@example.com>"
    mail.set_content(text)
    with smtplib.SMTP("127.0.0.1", SMTP_PORT, timeout=5) as smtp:
        smtp.send_message(mail)
