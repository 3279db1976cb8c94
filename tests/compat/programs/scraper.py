"""A scraper: a list of pages, a map over each, failures of some pages are filtered out, and a report."""

from datetime import timedelta

from prefect import Flow, task
from prefect.engine.signals import FAIL, SKIP
from prefect.tasks.control_flow import FilterTask
from prefect.triggers import all_finished

PAGES = {f"/episode/{n}": ("dialogue " * n if n != 3 else None) for n in range(1, 6)}
is_page = FilterTask(filter_func=lambda page: not isinstance(page, (BaseException, type(None))))


@task(tags=["web"])
def create_episode_list(pages, bypass):
    if bypass:
        return list(pages)[:1]
    return list(pages)


@task(tags=["web"], max_retries=1, retry_delay=timedelta(seconds=0), timeout=10)
def retrieve_url(url):
    found = PAGES[url]
    if found is None:
        raise FAIL(f"{url} is gone")
    if url.endswith("5"):
        raise SKIP("too long")
    return found


@task
def scrape_dialogue(text):
    return len(text.split())


@task(trigger=all_finished)
def summary(counts):
    return {"pages": len(counts), "words": sum(counts)}


with Flow("xfiles") as flow:
    urls = create_episode_list(PAGES, bypass=False)
    pages = retrieve_url.map(urls)
    good = is_page(pages)
    words = scrape_dialogue.map(good)
    told = summary(words)

flow.set_reference_tasks([told])


def check(state):
    assert state.is_successful(), state
    result = state.result[told].result
    assert result["words"] == 1 + 2 + 4, result
