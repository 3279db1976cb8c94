"""What the README, the pages of the documentation and the docstrings show, run as it stands there."""

from __future__ import annotations

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language; those of none are what a program prints."""
    fenced = re.findall(r"^```(\S*)[^\n]*\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [content for label, content in fenced if label == language]


def modules() -> Iterator[str]:
    for folder, package in ((ROOT / "prefectish", "prefectish"), (ROOT / "executors", "prefectish.executors")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *(part for part in parts if part != "__init__")])
            if name != "prefectish.compat.installed":  # it changes the process that imports it, for all tests to come
                yield name


def test_readme_examples_print_what_the_readme_says(tmp_path: Path) -> None:
    script = tmp_path / "thumbnails.py"
    graph, function = blocks(README, "python")
    script.write_text(f"{graph}\n{function}")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True)
    *first, last = done.stdout.splitlines(keepends=True)
    assert "".join(first) == blocks(README, "")[0]
    assert f"prints `{last.strip()}`" in README


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"])
def test_links_to_files_lead_somewhere(name: str) -> None:
    """Those of the pages are checked as the documentation is built."""
    path = ROOT / name
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text())
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


def test_readme_shows_the_newest_results() -> None:
    """`python -m benchmarks.readme` writes them there."""
    program = "from benchmarks import readme, table; print(readme.bars(table.newest()), end='')"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    _, _, rest = README.partition("<!-- bars -->\n")
    assert rest.partition("<!-- /bars -->")[0] == done.stdout


def test_every_question_that_was_asked_is_answered_in_the_readme() -> None:
    program = "from benchmarks import readme, table; print(readme.unanswered(table.newest()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("word", "page"),
    [
        ("GIL", "executors"),
        ("thread pool", "executors"),
        ("existing cluster", "executors"),
        ("dashboard", "executors"),
        ("Kubernetes", "executors"),
        ("SLURM", "executors"),
        ("progress bar", "watching"),
        ("pandas", "inputs"),
        ("rate limit", "mapping"),
        ("memory", "mapping"),
        ("out of memory", "reliability"),
        ("cron", "schedules"),
        ("Jupyter", "notebooks"),
        ("environment variable", "command"),
        ("cache", "results"),
        ("timeout", "reliability"),
        ("async", "functions"),
    ],
)
def test_word_that_a_newcomer_searches_is_on_its_page(word: str, page: str) -> None:
    """The search of the documentation looks for whole words, and ignores capitals."""
    text = " ".join((ROOT / "docs" / f"{page}.md").read_text().split())
    assert re.search(rf"\b{word}s?\b", text, re.IGNORECASE)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p.read_text(), "python")], ids=lambda page: page.stem)
def test_python_of_a_page_is_one_program_that_prints_what_the_page_says(page: Path, tmp_path: Path) -> None:
    """Blocks marked `{code-block} python` are parts of programs, and not run."""
    script = tmp_path / f"{page.stem}.py"
    script.write_text("\n".join(blocks(page.read_text(), "python")))
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(blocks(page.read_text(), ""))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_emphasis_of_a_page_is_no_row_of_asterisks(page: Path) -> None:
    text = re.sub(r"^```.*?^```$|`[^`]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r".*\*{4}.*", text) == []


@pytest.mark.parametrize(
    "module",
    [
        "prefectish",
        "prefectish.caching",
        "prefectish.executors",
        "prefectish.history",
        "prefectish.results",
        "prefectish.schedules",
        "prefectish.testing",
        "prefectish.utilities.notifications",
    ],
)
def test_public_names_are_on_a_page_of_the_api(module: str) -> None:
    pages = "".join(path.read_text() for path in sorted((ROOT / "docs" / "api").glob("*.rst")))
    if re.search(rf"^\.\. automodule:: {re.escape(module)}\n(   :.*\n)*   :imported-members:", pages, re.MULTILINE):
        return
    for name in importlib.import_module(module).__all__:
        if name != "__version__":
            assert re.search(rf"^\.\. \w+:: {re.escape(module)}\.{name}$", pages, re.MULTILINE), (
                f"{module}.{name} is on no page of docs/api"
            )


@pytest.mark.parametrize("name", sorted(modules()))
def test_docstring_examples_hold(name: str) -> None:
    module = importlib.import_module(name)
    for value in list(vars(module).values()):  # what this loads would come while doctest goes through the names
        hasattr(value, "__wrapped__")
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert failed == 0
