"""The page ``prefectish ui``: what a history holds, and requests to what runs, in a browser.

How it hangs together. A request passes :mod:`security`, is routed by :mod:`routes`, and ends in one of

* :mod:`pages`: a query (:mod:`lookups`, :mod:`queries`) gives a record, a template is filled with it
  (``templates/NAME.html``, the record is `page`);
* :mod:`api`: the same query, its record as JSON, described by ``api/openapi.json`` (:mod:`openapi`);
* :mod:`events`: server-sent events of a topic, ``events/TOPIC``, one look at the database for any number of viewers;
* :mod:`posts`: what a button or a program asks for (:mod:`actions`), left in the database for the driver or the agent.

Queries are functions of a :class:`source.Source` (an open history, and what is remembered of it) that return the
models of :mod:`records`. Nothing here writes to the tables of runs.

For templates
-------------
`page`
    The record of the page, by :data:`pages.PAGES`.
`url(NAME, **parts)`
    The address of a route of :mod:`paths`, relative to the base of the document: ``url("run", run=run.id)``. Query
    parameters are given as `query`: ``url("runs", query={"flow": name})``.
`root`
    The base of the document relative to this page, for ``<base href="{{ root }}">``, so that all addresses hold behind
    a proxy that serves the page under a prefix, in fragments too. For a link within the page write
    ``{{ here }}#causes``.
`static(FILE)`
    The address of a file below ``static/``.
`csrf`
    The token that each form must send as `csrf`, and each script as header ``X-CSRF-Token``.
`read_only`
    Whether there are no buttons.

Filters are those of :mod:`prefectish.display.page` (shown, seconds, number, when, size) and `state_color`. The policy
of the pages allows neither inline scripts nor ``style=`` attributes: bars are SVG with attributes, colours are classes.

Live parts: ``<div hx-ext="sse" sse-connect="{{ url('events', topic='run/' ~ run.id) }}">`` and in it
``<section sse-swap="tasks">``. Each event of a topic is a rendered fragment, ``templates/fragments/NAME.html``, with
the record as `page` (:data:`events.TOPICS`); it is sent when it changed.

Buttons are forms: ``<form method="post" action="{{ url('ask', run=run.id) }}">`` with `verb` and its arguments
(:mod:`actions`), `csrf`, and `back`, the address to return to, relative to the base. With htmx (``hx-post``) the
answer is ``fragments/asked.html`` with a :class:`records.Asked` as `page`; without it the browser is sent `back`.

Pages
-----
========================== ==================================================== =============================
route                      address                                              template, record
========================== ==================================================== =============================
runs                       /                                                    runs.html, RunsPage
run                        /runs/{run}                                          run.html, RunDetail
logs                       /runs/{run}/logs                                     logs.html, LogLines
failures                   /runs/{run}/failures                                 failures.html, FailedItems
timeline                   /runs/{run}/timeline                                 timeline.html, Timeline
task                       /runs/{run}/tasks/{step}                             task.html, MapDetail
find                       /runs/{run}/tasks/{step}/find                        found.html, Found
item                       /runs/{run}/tasks/{step}/items/{row}                 item.html, ItemDetail
compare                    /compare?before=&after=                              compare.html, ComparePage
deployments                /deployments                                         deployments.html, DeploymentsPage
deployment                 /deployments/{project}/{name}                        deployment.html, DeploymentDetail
agents                     /agents                                              agents.html, AgentsPage
limits                     /limits                                              limits.html, LimitsPage
approvals                  /approvals                                           approvals.html, ApprovalsPage
(none)                     an address that is not there                         error.html, Refusal
========================== ==================================================== =============================

Buttons post to ``/runs/{run}/ask`` (`ask`), ``/runs/{run}/approve`` (`approve`), ``/limits/set`` (`set_limit`),
``/deployments/{project}/{name}/run``, ``.../archive`` and ``.../active`` (`run_now`, `archive`, `set_active`).

The picture of a map is ``api/runs/{run}/tasks/{step}/picture?by=state`` (`picture`), a byte for each item: the number
of its state in :data:`prefectish.history.schema.STATES` plus 1, 0 for one that has not ended, 255 for one that is
running; or with ``by=duration`` 2 to 254 on a logarithmic scale of four powers of ten, up to `longest`.
"""
