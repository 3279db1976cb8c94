"""How the documentation is built: ``sphinx-build -n -W docs build/docs``. Nothing is downloaded."""

from __future__ import annotations

import re
import sys
from itertools import takewhile
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

import prefectish

sys.path.insert(0, str(Path(__file__).parent))
import back_links
import pages

project = "prefectish"
author = "prefectish developers"
copyright = "prefectish developers, BSD-3-Clause"
version = release = prefectish.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
root_doc = "index"
exclude_patterns = ["_build"]
nitpicky = True
# Sphinx looks up the names in sections of attributes, and two classes may have an attribute of one name.
suppress_warnings = ["ref.python"]
default_role = "code"
# Blocks without a language are what programs print.
highlight_language = "none"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

# Only references to prefectish are checked: Python, Dask and SQLAlchemy are documented elsewhere. Annotations may
# name internal classes, which have no page.
INTERNAL = [
    r"engine\.(?!state|signals|driver\.handle\.Run).*",
    r"(task_graph|executors\.\w+|control_flow\.\w+|history\.\w+|testing\.\w+|schedules\.\w+|utilities\.\w+\.\w+)\.\w+",
    r"(functions\.\w+\.(R|DoneAndNotDone)|secrets\.store)",
    r"(tasks\.task\.R|tasks\.secrets\.SecretBase|tasks\.options\.\w+|tasks\.hooks\.H|tasks\.retries\.\w+)",
    r"(results\.base\.ResultStore|triggers\.Trigger|tasks\.collections\.Constant)",
]
nitpick_ignore_regex = [
    (r"py:.*", r"(?!prefectish).*"),
    *((r"py:(class|obj|mod)", rf"prefectish\.{name}") for name in INTERNAL),
]

html_theme = "pydata_sphinx_theme"
html_title = "prefectish"
html_static_path = ["_static"]
html_css_files = ["prefectish.css"]
html_show_sourcelink = False
maximum_signature_line_length = 100
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "pygments_light_style": "tango",
}
_WIDE = ("index", "quickstart", "moving", "moving-later", "moving-dask", "moving-joblib", "benchmarks", "changelog")
html_sidebars = {name: [] for name in _WIDE}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

#: In our docstrings a line of a section is a name and what it means: ``address : of a scheduler``. Types stand in the
#: annotations, and nowhere else.
SECTIONS = {"Parameters", "Attributes", "Raises", "Returns", "Yields"}
NAMED = re.compile(r"^(\(?\*{0,2}[A-Za-z_][\w.]*(?:, \*{0,2}[A-Za-z_]\w*)*\)?) : (\S.*)$")


def split_names(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Put what a name means on a line of its own, where napoleon looks for it; several attributes get it each."""
    out: list[str] = []
    section = ""
    for i, line in enumerate(lines):
        if i + 1 < len(lines) and re.fullmatch(r"-{3,}", lines[i + 1]):
            section = line
        found = NAMED.match(line) if section in SECTIONS else None
        if not found:
            out.append(line)
        elif section == "Attributes":
            further = list(takewhile(lambda more: more.startswith(" "), lines[i + 1 :]))
            *others, last = found[1].split(", ")
            for attribute in others:
                out += [attribute, f"    {found[2]}", *further]
            out += [last, f"    {found[2]}"]
        else:
            out += [found[1], f"    {found[2]}"]
    lines[:] = out


def keep_colons(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep napoleon from taking what stands before a colon in the text of a property for its type."""
    if what in ("property", "attribute"):
        lines[:] = [re.sub(r"(?<=\w): ", " \N{EN DASH} ", line) for line in lines]


def forget_overloads(app: Sphinx) -> None:
    """Show one signature of each function, as a reader would call it; overloads are for type checkers."""
    folder = Path(prefectish.__file__).parent
    for path in folder.rglob("*.py"):
        if "@overload" in path.read_text():
            parts = path.relative_to(folder).with_suffix("").parts
            analyzer = ModuleAnalyzer.for_module(".".join(["prefectish", *(p for p in parts if p != "__init__")]))
            analyzer.analyze()
            analyzer.overloads.clear()


def setup(app: Sphinx) -> None:
    """Connect our own steps."""
    app.connect("autodoc-process-docstring", split_names, priority=100)
    app.connect("autodoc-process-docstring", keep_colons, priority=100)
    app.connect("builder-inited", forget_overloads)
    app.connect("builder-inited", pages.write)
    app.connect("build-finished", back_links.mend_all)
