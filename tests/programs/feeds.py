"""News from several feeds at once: an async flow."""

import asyncio

from prefectish import flow, task


@task
async def read(feed):
    await asyncio.sleep(0.01)
    if feed == "gone":
        raise ConnectionError(feed)
    return [f"{feed} {n}" for n in range(2)]


@task
def headline(news):
    return news[0].upper()


@flow
async def feeds(names: list[str]):
    first = await read(names[0])
    futures = [read.submit(name) for name in names]
    found = await asyncio.gather(*futures, return_exceptions=True)
    lines = [headline.submit(future) for future, news in zip(futures, found, strict=True) if isinstance(news, list)]
    return len(first), [line.result() for line in lines], [type(news).__name__ for news in found]


if __name__ == "__main__":
    print(asyncio.run(feeds(["world", "gone"])))
