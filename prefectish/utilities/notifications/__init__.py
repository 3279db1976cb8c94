"""State handlers that tell somebody: through a Slack webhook, by mail, or through any service that apprise knows.

Examples
--------
One message when the flow has failed, with counts, causes and the command that runs the failed children again::

    with Flow("thumbnails", state_handlers=[slack_notifier(only_states=[Failed])]) as flow:
        ...

One when a map has ended, whatever its children came to::

    @task(state_handlers=[slack_notifier])
    def resize(path): ...

Nobody waits for a delivery while a run goes on, and a delivery that fails is logged and noted in the history; the run
is none the worse for it.
"""

from __future__ import annotations

from prefectish.engine.handlers import callback_factory
from prefectish.utilities.notifications.delivery import flush
from prefectish.utilities.notifications.notifiers import (
    Notifier,
    apprise_notifier,
    email_notifier,
    slack_notifier,
)

__all__ = ["Notifier", "apprise_notifier", "callback_factory", "email_notifier", "flush", "slack_notifier"]
