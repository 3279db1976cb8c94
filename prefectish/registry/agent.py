"""An agent: begins the runs whose time has come, and sees to those whose driver died.

It keeps nothing in memory that matters: an agent that is killed is replaced by another one, or by itself, and drivers,
which run in sessions of their own, go on meanwhile.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from sqlalchemy import insert, update

from prefectish import config
from prefectish.environments.base import EnvironmentFailed, output_of
from prefectish.errors import HistoryWriteError, describe
from prefectish.history.children import aware_time
from prefectish.history.holders import Life, life_of, own_holder, shown
from prefectish.history.registry_tables import CLAIMED, DRIVEN, ENDED
from prefectish.history.registry_tables import agents as table
from prefectish.history.signing import Signer
from prefectish.history.store import HistoryStore, open_store
from prefectish.kinds import is_a
from prefectish.process_tree import process_name
from prefectish.registry import planning, queue
from prefectish.registry.deployment import Deployment, deployments
from prefectish.registry.drive import BEAT, FAILED, LOCKED, LOST_RUN, origin_of, record_end

logger = logging.getLogger("prefectish.registry")
#: Seconds between two looks for what is due.
POLL_INTERVAL = 1.0
#: Seconds in which a driver, or the agent that waits for one, must give a sign of life.
STANDS_STILL_AFTER = 60.0
#: Bytes of the output of a driver that are kept: its end.
MAX_OUTPUT = 200_000
#: The highest code with which a program ends by itself; shells add the number of the signal that ended it.
SHELLS_OWN = 128
#: Seconds until a run is tried again that another driver holds.
LOCKED_DELAY = 5.0


class Driver(NamedTuple):
    """A driver that this agent has started."""

    run: str
    claim: str
    process: subprocess.Popen[bytes]
    files: Path  # the file that says what to do; what the driver prints is beside it
    deployment: Deployment


class Seen(NamedTuple):
    """What was seen of a run last, and when by the clock of this process."""

    signs: tuple[str | None, int]
    at: float


class Agent:
    """Begins runs.

    Parameters
    ----------
    store
        Path or database URL of the history; default: the one in the home folder.
    labels
        It takes runs of deployments whose labels it all has.
    limit
        Drivers at the same time, at most; None for no limit.
    """

    def __init__(
        self, store: str | os.PathLike[str] | None = None, labels: Iterable[str] = (), limit: int | None = None
    ) -> None:
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise ValueError(f"limit must be an int >= 1, or None for none, got {limit!r}")
        self.id = f"{process_name()}:{secrets.token_hex(8)}"
        self.labels = sorted({labels} if isinstance(labels, str) else set(labels))
        self.limit = limit
        self._store: HistoryStore = open_store(store)
        self._drivers: list[Driver] = []
        self._seen: dict[str, Seen] = {}
        self._refused: set[int] = set()
        self._stop = threading.Event()
        self._beat_at = 0.0
        self._folder = Path(config.home(), "agent")

    def stop(self) -> None:
        """Begin no more runs, and end; drivers continue without it."""
        self._stop.set()

    def start(self, once: bool = False) -> None:
        """Work until :meth:`stop`, or SIGTERM or Ctrl-C.

        Parameters
        ----------
        once
            Begin what is due now, wait for the end of it, and end.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = {"process": own_holder(), "labels": json.dumps(self.labels), "size": self.limit, "started": time.time()}
        with self._store.writing() as connection:
            connection.execute(insert(table).values(id=self.id, beat=0, seen=time.time(), **facts))
        logger.info("agent %s takes runs from %s", self.id, self._store.location)
        try:
            with _stopped_by_signals(self.stop):
                while not self._stop.is_set():
                    self._turn()
                    if once and not self._drivers:
                        return
                    self._stop.wait(POLL_INTERVAL)
        finally:
            try:
                with self._store.writing() as connection:
                    connection.execute(update(table).where(table.c.id == self.id).values(stopped=time.time()))
            except HistoryWriteError as error:
                logger.warning("%s; it is not noted that agent %s has ended", error, self.id)
            if self._drivers:
                logger.info("agent %s ends; %d drivers continue without it", self.id, len(self._drivers))

    def _turn(self) -> None:
        """Do what is to be done now; a database that cannot be reached, or a full disk, is tried again next turn."""
        try:
            self._show_life()
            self._collect()
            self._look_for_lost()
            self._plan()
            while not self._stop.is_set() and self._begin_one():
                pass
        except OSError as error:  # HistoryWriteError is one
            logger.warning("%s; trying again", error)

    def _show_life(self) -> None:
        """Beat for itself, and for its drivers as long as they cannot: a queue lets them wait, or a body holds the GIL.

        Not for one that is stopped, or that cannot be looked at from here: its own beats count.
        """
        now = time.monotonic()
        if now - self._beat_at < BEAT:
            return
        self._beat_at = now
        with self._store.writing() as connection:
            values = {"beat": table.c.beat + 1, "seen": time.time()}
            connection.execute(update(table).where(table.c.id == self.id).values(values))
        holders = {run.run: run for run in queue.open_runs(self._store)}
        for driver in self._drivers:
            found = holders.get(driver.run)
            if found is not None and (found.state == CLAIMED or _runs(found.holder)):
                queue.beat(self._store, driver.run, driver.claim)
        self._collect_orphans()

    def _plan(self) -> None:
        now = time.time()
        for deployment in deployments(store=self._store.address):
            if deployment.active and deployment.schedules and set(deployment.labels) <= set(self.labels):
                if (reason := deployment.refusal()) is not None:
                    self._refuse(deployment, reason)
                else:
                    self._plan_one(deployment, now)

    def _plan_one(self, deployment: Deployment, now: float) -> None:
        try:
            asked = planning.plan(self._store, deployment, now)
        except HistoryWriteError:
            raise
        except Exception as error:  # of a schedule of another version, or of rows that were altered; others go on
            self._refuse(deployment, f"its schedule cannot be followed: {describe(error)}")
            return
        if asked:
            logger.info("%s: %d runs are due", deployment.path, asked)

    def _refuse(self, deployment: Deployment, reason: str) -> None:
        if deployment.id not in self._refused:
            self._refused.add(deployment.id)
            logger.error("%s is not run by this agent: %s", deployment.path, reason)

    # -- beginning -----------------------------------------------------------------------------------------------------

    def _begin_one(self) -> bool:
        """Take a run and start its driver; return whether there was one."""
        if self.limit is not None and len(self._drivers) >= self.limit:
            return False
        taken = queue.take(self._store, self.id, self.labels, time.time())
        if taken is None:
            return False
        deployment = Deployment(self._store, taken.deployment)
        logger.info("%s: run %s begins (%s)", deployment.path, taken.run, taken.begun_by)
        facts = {"run": taken.run, "claim": taken.claim}
        if (reason := self._refusal(taken.run, deployment)) is not None:
            self._end(taken.run, taken.claim, deployment, f"it is not run by this agent: {reason}", 2)
        else:
            self._start_driver("run", facts, deployment)
        return True

    def _start_driver(self, word: str, facts: dict[str, Any], deployment: Deployment) -> None:
        run, claim = facts["run"], facts["claim"]
        file = self._folder / f"{run}-{claim[:8]}.json"
        content = json.dumps({"store": self._store.address, "is_signed": Signer().has_key, **facts})
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as written:
            written.write(content)
        folders = [str(Path(self._store.location).absolute().parent)] if self._store.is_file else []
        try:
            launch = deployment.environment.launch(word, str(file), folders)
            with open(os.open(output_of(file), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as log:
                process = launch.popen(stdout=log, stderr=log)
        except OSError:  # the disk is full: the run is begun again, once this claim stands still
            raise
        except Exception as error:  # of its environment, which may be of another version: others go on
            file.unlink()
            self._end(run, claim, deployment, str(error) if is_a(error, EnvironmentFailed) else describe(error), 3)
            return
        self._drivers.append(Driver(run, claim, process, file, deployment))

    def _end(
        self, run: str, claim: str, deployment: Deployment, message: str, code: int, output: str | None = None
    ) -> None:
        """End a run that no driver can end."""
        from prefectish.engine.state import Failed

        logger.error("%s: run %s failed: %s", deployment.path, run, message)
        if queue.end(self._store, run, claim, f"Failed: {message}", code, output):
            origin = origin_of(queue.row_of(self._store, run), deployment)
            state = Failed(message, context={"exit_code": code})
            record_end(self._store, run, deployment.flow_name, state, origin)

    # -- ending --------------------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """See which drivers have ended, and keep what they printed."""
        for driver in list(self._drivers):
            code = driver.process.poll()
            if code is None:
                continue
            self._drivers.remove(driver)
            row = queue.row_of(self._store, driver.run)
            output = self._keep_output(driver.files)
            logger.info("%s: the driver of run %s ended with code %s", driver.deployment.path, driver.run, code)
            if row.state == ENDED or row.claim != driver.claim:
                continue
            found = next((each for each in queue.open_runs(self._store) if each.run == driver.run), None)
            if found is None:
                continue
            if code == LOCKED and found.state == CLAIMED:
                self._lost(found, "its driver could not use the history")
            elif code == LOCKED:
                queue.put_off(self._store, found, time.time() + LOCKED_DELAY)
            elif found.state == CLAIMED and 0 <= code <= SHELLS_OWN:
                hint = "" if code else "; a command must wait for the driver's end, as sbatch --wait does"
                message = f"its driver ended with code {code} before it began{hint}: {output[-2000:]}"
                self._end(driver.run, driver.claim, driver.deployment, message, 3)
            else:
                self._lost(found, f"its driver ended with code {code}")

    def _keep_output(self, file: Path) -> str:
        """Keep what a driver printed that has ended, and remove its files."""
        run, log = file.stem.rpartition("-")[0], output_of(file)
        output = _end_of(log)
        if output:
            queue.add_output(self._store, run, output)
        for path in (file, log):
            path.unlink(missing_ok=True)
        return output

    def _collect_orphans(self) -> None:
        """Keep what drivers printed whose agent ended before them."""
        own = {driver.files for driver in self._drivers}
        for file in sorted(set(self._folder.glob("*.json")) - own):
            run, _, claim = file.stem.rpartition("-")
            row = queue.row_of(self._store, run)  # None if an agent of another history works in this folder
            if row is not None and (row.state == ENDED or not str(row.claim).startswith(claim)):
                self._keep_output(file)

    def _look_for_lost(self) -> None:
        """Find runs whose driver, or whose agent before there is a driver, is dead or stands still."""
        now, own = time.monotonic(), {driver.run: driver.process for driver in self._drivers}
        current = queue.open_runs(self._store)
        self._seen = {run.run: self._seen.get(run.run, Seen((None, -1), now)) for run in current}
        for found in current:
            signs = (found.claim, found.beat)
            if self._seen[found.run].signs != signs:
                self._seen[found.run] = Seen(signs, now)
            if not set(json.loads(found.deployment.labels)) <= set(self.labels):
                continue
            holder, name = found.holder or "", shown(found.holder or "unknown")
            if holder and found.run not in own and life_of(holder, 0.0) is Life.DEAD:
                self._lost(found, f"its driver {name} is dead", began=found.state == DRIVEN)
            elif now - self._seen[found.run].at > STANDS_STILL_AFTER:
                why = f"its driver {name} gave no sign of life for {STANDS_STILL_AFTER:g} s"
                self._lost(found, why, began=found.state == DRIVEN)
                if found.run in own:  # what is stopped would hold the record of the run, and wake in the midst of it
                    _kill(own[found.run])

    def _lost(self, found: queue.OpenRun, why: str, began: bool = True) -> None:
        """Let another driver continue a run, or end it; end it here if the driver that was to end it died, too."""
        deployment = Deployment(self._store, found.deployment)
        options = deployment.options
        resumes = options.max_resumes if options.on_lost == "resume" else 0
        if found.resumes < resumes or (not began and found.resumes <= resumes):
            if queue.give_back(self._store, found, why, began):
                logger.warning("%s: run %s is begun again: %s", deployment.path, found.run, why)
            return
        text = why if options.on_lost == "fail" else f"{why}, after {min(found.resumes, resumes)} resumes"
        claim = queue.take_lost(self._store, found, self.id)
        if claim is None:
            return
        reason = "their driver died, too" if found.resumes > resumes else self._refusal(found.run, deployment)
        if reason is not None:
            self._end(found.run, claim, deployment, f"{LOST_RUN}: {text}; no handlers were called: {reason}", FAILED)
            return
        logger.error("%s: run %s is given up: %s", deployment.path, found.run, text)
        self._start_driver("fail", {"run": found.run, "claim": claim, "message": text}, deployment)

    def _refusal(self, run: str, deployment: Deployment) -> str | None:
        """Return why this agent must start no driver for a run: what is deployed, or asked for, is not signed."""
        return deployment.refusal() or queue.refusal(queue.row_of(self._store, run))


def _runs(holder: str | None) -> bool:
    """Whether a process is seen to live, and is not stopped."""
    return holder is not None and life_of(holder, 0.0) is Life.ALIVE


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a driver and what it has started, which are the session of their own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class _stopped_by_signals:
    """Call a function at SIGTERM and Ctrl-C in a block of the main thread."""

    def __init__(self, stop: Any) -> None:
        self._stop = stop
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._on_signal)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop()


class AgentRow(NamedTuple):
    """An agent, as the database knows it."""

    id: str
    process: str
    labels: tuple[str, ...]
    limit: int | None
    started: Any
    seen: Any
    stopped: Any


def agents(store: str | os.PathLike[str] | None = None) -> list[AgentRow]:
    """Return the agents that have worked with a history, the newest first."""
    opened = open_store(store)
    with opened.reading() as connection:
        rows = connection.execute(table.select().order_by(table.c.started.desc())).all()
    return [
        AgentRow(
            row.id, row.process, tuple(json.loads(row.labels)), row.size, aware_time(row.started),
            aware_time(row.seen), None if row.stopped is None else aware_time(row.stopped),
        )
        for row in rows
    ]  # fmt: skip


def _end_of(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - MAX_OUTPUT))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
