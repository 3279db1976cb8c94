"""State handlers that send notifications: by a Slack webhook, by mail, or through any service of apprise.

Examples
--------
One message when the flow has failed, with counts, causes and the command to rerun the failed children::

    with Flow("thumbnails", state_handlers=[slack_notifier(only_states=[Failed])]) as flow:
        ...

One message when a map has ended, in any state::

    @task(state_handlers=[slack_notifier])
    def resize(path): ...

Messages are delivered in the background; a failed delivery is logged and recorded in the history, and does not
affect the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefectish.engine.handlers import callback_factory
from prefectish.missing_names import lead_out
from prefectish.utilities.notifications.delivery import flush
from prefectish.utilities.notifications.notifiers import Notifier, apprise_notifier, email_notifier, slack_notifier

__all__ = ["Notifier", "apprise_notifier", "callback_factory", "email_notifier", "flush", "slack_notifier"]

if not TYPE_CHECKING:
    __getattr__ = lead_out(__name__)
