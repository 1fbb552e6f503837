"""`helm test`: a worker and a run of its workflow, through the server, Postgres and Redis, as any user would have them."""

import asyncio

from aiki import Client, Run, Worker, task, workflow


@task
async def greet(name: str) -> str:
    return f"hello, {name}"


hello = workflow("helm-test")


@hello.v("1.0")
async def hello_v1(run: Run, name: str) -> str:
    return await greet.start(run, name)


async def main() -> None:
    async with Client() as client:
        worker = Worker(client, workflows=[hello], pool="helm-test")
        await worker.start()
        try:
            handle = await hello_v1.start(client, "Helm", pool="helm-test")
            result = await handle.result(timeout=60)
        finally:
            await worker.stop()
        print(f"run {handle.id} answered: {result}")
        assert result == "hello, Helm", result


asyncio.run(main())
