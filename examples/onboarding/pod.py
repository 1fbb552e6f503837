"""The worker and the mail server in one process: what the image of this example runs on Kubernetes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import world
from mailserver import MailServer
from workflows import onboarding

from aiki import Client, Worker


async def main() -> None:
    post = MailServer(Path(world.DATABASE).with_name("mails.sqlite"))
    await post.start(world.SMTP_PORT)
    try:
        pool, concurrency = os.environ.get("AIKI_POOL", "default"), int(os.environ.get("AIKI_CONCURRENCY", "100"))
        await Worker(Client(), workflows=[onboarding], pool=pool, concurrency=concurrency).run()
    finally:
        await post.stop()


if __name__ == "__main__":
    asyncio.run(main())
