"""Files and a database: tasks of the library, with targets beside them."""

from pathlib import Path
from tempfile import mkdtemp

from prefect import Flow, task, unmapped
from prefect.tasks.database.sqlite import SQLiteQuery, SQLiteScript
from prefect.tasks.files import Copy, Glob

FOLDER = Path(mkdtemp())
DB = str(FOLDER / "x.db")
for name in "ab":
    (FOLDER / f"{name}.csv").write_text(f"{name},1\n{name},2\n")

create = SQLiteScript(db=DB, script="CREATE TABLE IF NOT EXISTS rows (name TEXT, n INTEGER)")
insert = SQLiteQuery(db=DB, query="INSERT INTO rows VALUES (?, ?)")
select = SQLiteQuery(db=DB, query="SELECT SUM(n) FROM rows")


@task
def parse(path):
    return [tuple(line.split(",")) for line in Path(path).read_text().splitlines()]


@task
def together(lists):
    return [row for rows in lists for row in rows]


with Flow("files") as flow:
    copied = Copy(source_path=str(FOLDER / "a.csv"), target_path=str(FOLDER / "copy.csv"))()
    paths = Glob(path=str(FOLDER), pattern="*.csv")(upstream_tasks=[copied])
    rows = together(parse.map(paths))
    table = create()
    inserted = insert.map(data=rows, upstream_tasks=[unmapped(table)])
    total = select(upstream_tasks=[inserted])


def check(state):
    assert state.is_successful(), state
    assert state.result[total].result == [(9,)]
