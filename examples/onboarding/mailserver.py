"""The outside world, part one: an SMTP server on loopback that can be told to refuse.

It speaks as much SMTP as smtplib asks for, keeps what it accepted in an SQLite file, and counts what it refused.
Run alone it prints what arrives: python mailserver.py --refuse 3
"""

from __future__ import annotations

import argparse
import asyncio
import email
import os
import sqlite3
from collections.abc import Callable
from email.message import Message
from pathlib import Path

SCHEMA = """
create table if not exists mails (recipient text, subject text, message_id text, body text);
create table if not exists refusals (recipient text);
"""


class MailServer:
    """Accepts mail into `database`, or refuses it with 451 while `refusals_left` is not 0 (-1: until told otherwise)."""

    def __init__(self, database: Path, *, refusals_left: int = 0, say: Callable[[str], None] = print) -> None:
        self.refusals_left = refusals_left
        self._say = say
        self._database = sqlite3.connect(database, isolation_level=None)
        self._database.executescript(SCHEMA)
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Listen, and say on which port."""
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the door; mails stay in the database."""
        if self._server:
            self._server.close()
            await self._server.wait_closed()
        self._database.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recipient = ""
        writer.write(b"220 example ESMTP\r\n")
        try:
            while line := (await reader.readline()).decode("ascii", "replace").strip():
                verb = line.split(":")[0].split(" ")[0].upper()
                if verb == "RCPT":
                    recipient = line.partition("<")[2].partition(">")[0]
                    writer.write(b"451 try again later\r\n" if self._refuses(recipient) else b"250 ok\r\n")
                elif verb == "DATA":
                    writer.write(b"354 go on\r\n")
                    content = await reader.readuntil(b"\r\n.\r\n")
                    self._keep(recipient, email.message_from_bytes(content.removesuffix(b".\r\n")))
                    writer.write(b"250 accepted\r\n")
                elif verb == "QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                else:
                    writer.write(b"250 ok\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            self._say("mail: a client went away in the middle of a conversation")
        finally:
            writer.close()

    def _refuses(self, recipient: str) -> bool:
        if self.refusals_left == 0:
            return False
        self.refusals_left -= self.refusals_left > 0
        self._database.execute("insert into refusals values (?)", (recipient,))
        self._say(f"mail: refused {recipient}")
        return True

    def _keep(self, recipient: str, mail: Message) -> None:
        row = (recipient, mail["Subject"], mail["Message-ID"], str(mail.get_payload()))
        self._database.execute("insert into mails values (?, ?, ?, ?)", row)
        self._say(f"mail: {mail['Subject']!r} to {recipient}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=int(os.environ.get("ONBOARDING_SMTP_PORT", "2525")))
    parser.add_argument("--refuse", type=int, default=0, metavar="N", help="refuse the first N mails (-1: all of them)")
    parser.add_argument("--database", type=Path, default=Path("mails.sqlite"))
    options = parser.parse_args()
    server = MailServer(options.database, refusals_left=options.refuse)
    print(f"mail: listening on 127.0.0.1:{await server.start(options.port)}")
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("mail: closed")
