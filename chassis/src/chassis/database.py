"""PostgreSQL by psycopg2 from a bounded pool, where no wait is without an end.

psycopg2 blocks in libpq, which knows no deadline once a query is sent: a stopped server would hold a thread for ever.
So the process gets a wait callback (`install_wait_callback`) that polls the socket until the operation's deadline.
"""

from __future__ import annotations

import logging
import random
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2.extensions import POLL_OK, POLL_READ
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from chassis import context
from chassis.breaker import CircuitBreaker
from chassis.errors import DeadlineExceeded, Unavailable
from chassis.health import Result
from chassis.settings import DatabaseSettings

if TYPE_CHECKING:
    from chassis.metrics import Metrics

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_AT = ((0.35, 0.45), (0.67, 0.72))
RETRY_WITHIN_S = 1.0
"""Transient failures: two more tries (contract, section 4: "up to twice (0.5 s, jitter)"), each at a random time
between those parts of what is left after the first failure, a second at the most. With 0.8 s for an operation, the
first one finds a server that was away for 0.25 s, and the last one, which has 0.2 s to be answered, one that was away
for 0.5 s. With waits drawn from 0 to 0.5 s both could be short: one call in eight gave up within 0.25 s, and opened the
breaker for all.
"""

CANCEL_MARGIN_MS = 50
"""The server cancels a statement this long before we give up on the server, so that slow is not taken for dead."""

BREAKER_RESET_S = 0.5
"""Healthy within 2 s of the server's return: this, a health check's age of 1 s, and a connect."""

LOOK_ELSEWHERE_S = 1.0
"""While all writes are refused, one makes a new connection so often: the name may lead to another server by now."""

_deadline_s: ContextVar[float | None] = ContextVar("database_deadline", default=None)


class DatabaseUnavailable(Unavailable):
    """The server cannot be reached, or does not answer in time."""

    slug = "database-unavailable"


class PoolExhausted(Unavailable):
    """Every connection was in use for as long as a caller may wait."""

    slug = "pool-exhausted"


class _TimedOut(psycopg2.OperationalError):
    """Our own deadline, found in the wait callback. psycopg2 closes the connection that it is raised on."""


def wait(connection: Any) -> None:
    """psycopg2's wait callback: poll the socket until the operation's deadline."""
    deadline_s = _deadline_s.get()
    try:
        while (state := connection.poll()) != POLL_OK:
            poller = select.poll()  # a new one each time: libpq may change sockets while it connects
            poller.register(connection.fileno(), select.POLLIN if state == POLL_READ else select.POLLOUT)
            left_ms = None if deadline_s is None else max(0.0, (deadline_s - time.monotonic()) * 1000)
            if not poller.poll(left_ms):
                raise _TimedOut("no answer in time")
    except BaseException:
        # The traceback has this frame. A connection that could not be made would stay open for as long as somebody has
        # the exception: until the garbage collector comes by, if it is in a cycle with a frame that it went through.
        del connection
        raise


def install_wait_callback() -> None:
    """Bound every psycopg2 wait of this process. COPY does not work with it: programs that load data leave it out."""
    psycopg2.extensions.set_wait_callback(wait)


@contextmanager
def bounded(limit_s: float) -> Iterator[float]:
    """Bound the psycopg2 calls inside to `limit_s` or the request's deadline; gives the deadline (monotonic)."""
    outer = _deadline_s.get()
    deadline_s = context.deadline_within(limit_s)
    token = _deadline_s.set(deadline_s if outer is None else min(outer, deadline_s))
    try:
        yield deadline_s
    finally:
        _deadline_s.reset(token)


def connect(settings: DatabaseSettings, *, application: str, statement_timeout_ms: int | None = None) -> Any:
    """A new connection in autocommit mode: one statement is one round trip, with no BEGIN before it."""
    connection = psycopg2.connect(
        host=settings.host,
        port=settings.port,
        dbname=settings.name,
        user=settings.user,
        password=settings.password.get_secret_value() if settings.password else None,
        sslmode=settings.sslmode,
        connect_timeout=max(2, round(settings.connect_timeout_ms / 1000)),  # libpq's own floor; the callback is finer
        application_name=application,
        keepalives_idle=30,
        options="-c timezone=UTC" + (f" -c statement_timeout={statement_timeout_ms}" if statement_timeout_ms else ""),
    )
    connection.autocommit = True
    return connection


class Database:
    """A pool of connections to one PostgreSQL database, and the few ways to use it.

    Connections are made outside any lock and no sooner than needed, never more than `pool_size`. A connection that
    the server closed while it was idle is found before anything is sent on it, so that every statement, also a write,
    can go out on another one. A lost or slow server opens a breaker: callers get 503 at once while one of them tries.
    One that takes no writes (a standby, for instance) is lost to writers alone.

    Raises (all methods): DatabaseUnavailable, PoolExhausted, DeadlineExceeded; psycopg2.Error for what a statement
    itself did wrong (a unique violation, for example).
    """

    def __init__(self, settings: DatabaseSettings, *, application: str, metrics: Metrics) -> None:
        self._settings = settings
        self._application = application
        self._limit_s = settings.operation_timeout_ms / 1000
        self._statement_limit_ms = max(1, settings.operation_timeout_ms - 2 * CANCEL_MARGIN_MS)
        self._answered_s = 0.0
        self._refuses_writes = False
        self._gave_up_s = 0.0
        self._waiting = 0
        self._waiting_lock = threading.Lock()
        self._health_lock = threading.Lock()
        self._health_connection: Any = None
        self._breaker = CircuitBreaker(reset_s=BREAKER_RESET_S, on_change=self._log_change)
        metrics.expect_errors(DatabaseUnavailable.slug, PoolExhausted.slug)
        self._queries = metrics.counter("db_queries_total", "Statements sent to the database")
        self._connection_errors = metrics.counter("db_connection_errors_total", "Connections that failed or were lost")
        self._wait_seconds = metrics.histogram("db_pool_wait_seconds", "Wait for a pooled connection, seconds")
        self._pool = QueuePool(
            self._connect, pool_size=settings.pool_size, max_overflow=0, timeout=settings.pool_wait_ms / 1000,
            use_lifo=True, reset_on_return=None,
        )  # fmt: skip
        metrics.watch_pool(self)

    # --- statements ---

    def fetch(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of one reading statement, in one round trip. Tried again when the connection is lost under it."""
        return self._attempt(lambda: self._run(sql, parameters), retry_when_sent=True)

    def execute(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Run one writing statement as a transaction of its own and return its rows (`RETURNING`).

        Tried again only if nothing was sent: nobody can tell whether a statement that was sent took effect.
        """
        return self._attempt(lambda: self._run(sql, parameters), retry_when_sent=False)

    def fetch_dicts(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[dict[str, Any]]:
        """As `fetch`; the rows by the names of their columns."""
        return self._attempt(lambda: self._run_dicts(sql, parameters), retry_when_sent=True)

    def execute_dicts(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[dict[str, Any]]:
        """As `execute`; the rows by the names of their columns."""
        return self._attempt(lambda: self._run_dicts(sql, parameters), retry_when_sent=False)

    def transact(self, work: Callable[[Any], T]) -> T:
        """Run `work(cursor)` between BEGIN and COMMIT, rolled back when it raises. Tried again as `execute` is."""

        def attempt() -> T:
            with self._checkout() as (connection, deadline_s):
                with connection.cursor() as cursor:
                    cursor.execute(f"BEGIN; SET LOCAL statement_timeout = {_statement_limit_ms(deadline_s)}")
                    try:
                        result = work(cursor)
                    except Exception:
                        if not connection.closed:
                            cursor.execute("ROLLBACK")
                        raise
                    cursor.execute("COMMIT")
                self._queries.inc()
                return result

        return self._attempt(attempt, retry_when_sent=False)

    def _run(self, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
        with self._executed(sql, parameters) as cursor:
            return cursor.fetchall() if cursor.description else []

    def _run_dicts(self, sql: str, parameters: Any) -> list[dict[str, Any]]:
        with self._executed(sql, parameters) as cursor:
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()] if names else []

    @contextmanager
    def _executed(self, sql: str, parameters: Any) -> Iterator[Any]:
        """A cursor that has run the statement."""
        with self._checkout() as (connection, deadline_s), connection.cursor() as cursor:
            limit_ms = _statement_limit_ms(deadline_s)
            if limit_ms < self._statement_limit_ms:  # else the connection's own limit, set once, is close enough
                sql = f"SET LOCAL statement_timeout = {limit_ms}; {sql}"
            cursor.execute(sql, parameters or None)
            self._queries.inc()
            yield cursor

    # --- connections ---

    def _connect(self) -> Any:
        with self._not_waiting(), bounded(self._settings.connect_timeout_ms / 1000):
            try:
                return connect(
                    self._settings,
                    application=self._application,
                    statement_timeout_ms=self._statement_limit_ms,
                )
            except psycopg2.OperationalError as error:
                self._connection_errors.inc()
                raise _NotSent from error

    @contextmanager
    def _checkout(self) -> Iterator[tuple[Any, float]]:
        """A live pooled connection and the operation's deadline. Whatever breaks it also discards it."""
        deadline_s = _deadline_s.get() or time.monotonic() + self._limit_s
        pooled = self._take()
        while not _is_idle(pooled.dbapi_connection):
            self._connection_errors.inc()
            pooled.invalidate()
            pooled.close()
            if time.monotonic() >= deadline_s:
                raise _NotSent("no live connection in time")
            pooled = self._take()
        given_up = False
        try:
            yield pooled.dbapi_connection, deadline_s
        except BaseException as error:
            if isinstance(error, psycopg2.errors.ReadOnlySqlTransaction):
                given_up = self._give_up(pooled.dbapi_connection)
            if pooled.dbapi_connection is not None and pooled.dbapi_connection.closed:
                self._connection_errors.inc()
                pooled.invalidate()
            raise
        finally:
            pooled.close()
            if given_up:  # whoever is turned away waits for another connection: the next one may be a reader
                with suppress(PoolExhausted, psycopg2.OperationalError):
                    self._take().close()

    def _give_up(self, connection: Any) -> bool:
        """Close a connection to what was the primary, perhaps. At once if others can write; else one at a time, as
        connecting for every write that is refused would cost the readers more than all their reads. Returns whether it
        was closed.
        """
        if self._refuses_writes and time.monotonic() - self._gave_up_s < LOOK_ELSEWHERE_S:
            return False
        self._gave_up_s = time.monotonic()
        connection.close()
        return True

    def _take(self) -> Any:
        began_s = time.monotonic()
        with self._waiting_lock:
            self._waiting += 1
        try:
            return self._pool.connect()
        except PoolTimeoutError as error:
            raise PoolExhausted("Every database connection is busy") from error
        finally:
            with self._waiting_lock:
                self._waiting -= 1
            self._wait_seconds.observe(time.monotonic() - began_s)

    @contextmanager
    def _not_waiting(self) -> Iterator[None]:
        """A caller for whom a connection is being made does not wait for a free one."""
        with self._waiting_lock:
            self._waiting -= 1
        try:
            yield
        finally:
            with self._waiting_lock:
                self._waiting += 1

    # --- failing and trying again ---

    def _attempt(self, call: Callable[[], T], *, retry_when_sent: bool) -> T:
        if not self._breaker.allow():
            raise DatabaseUnavailable("The database cannot be reached")
        with bounded(self._limit_s) as deadline_s:
            began_s = time.monotonic()
            if began_s >= deadline_s:
                raise _out_of_time(deadline_s)
            retries = iter(()) if self._breaker.is_open else _retries(deadline_s)  # a probe is one try
            while True:
                try:
                    result = call()
                except psycopg2.errors.QueryCanceled as error:
                    raise _out_of_time(deadline_s) from error
                except psycopg2.errors.ReadOnlySqlTransaction as error:
                    self._answered()  # reads go on
                    self._log_writes(refused=True)
                    raise DatabaseUnavailable("The database takes no changes now") from error
                except _TRANSIENT as error:
                    lost_write = not retry_when_sent and not isinstance(error, _NotSent)
                    again_s = None if lost_write or isinstance(error, _TimedOut) else next(retries, None)
                    if again_s is None:
                        failure = _failure_of(error, deadline_s)
                        # One lost connection is no lost server, and neither is a client in a hurry, nor one unlucky
                        # call on a busy machine while the server answers others.
                        its_end = not lost_write or isinstance(error, _TimedOut)
                        if isinstance(failure, Unavailable) and its_end and self._answered_s < began_s:
                            self._breaker.failure()
                        raise failure from error
                    time.sleep(max(0.0, again_s - time.monotonic()))
                except psycopg2.Error:
                    self._answered()  # what it said is the caller's matter
                    raise
                else:
                    self._answered()
                    if self._refuses_writes and not retry_when_sent:
                        self._log_writes(refused=False)
                    return result

    def _answered(self) -> None:
        self._answered_s = time.monotonic()
        self._breaker.success()

    def _log_change(self, is_open: bool) -> None:
        if is_open:
            log.error("Database is unavailable: %s:%s", self._settings.host, self._settings.port)
        else:
            log.info("Database is available again")

    def _log_writes(self, *, refused: bool) -> None:
        """Once for each change; two threads that find it out at the same time may say it twice."""
        if refused and not self._refuses_writes:
            log.error("Database is read-only: %s:%s", self._settings.host, self._settings.port)
        elif not refused:
            log.info("Database takes changes again")
        self._refuses_writes = refused

    # --- health ---

    def check(self, limit_s: float) -> Result:
        """`SELECT 1` on a connection kept for this alone, so that a full pool does not look like a dead server."""
        pool = {"pool": self.stats()}
        with self._health_lock, bounded(limit_s):
            try:
                if self._health_connection is None or not _is_idle(self._health_connection):
                    self._close_health_connection()
                    self._health_connection = connect(
                        self._settings, application=f"{self._application}-health",
                        statement_timeout_ms=max(1, int(limit_s * 1000)),
                    )  # fmt: skip
                with self._health_connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
            except psycopg2.Error as error:
                self._close_health_connection()
                name = "TimeoutError" if isinstance(error, _TimedOut) else type(error).__name__
                return Result("unhealthy", "Database is not accessible", error=name, details=pool)
        self._breaker.success()
        return Result("healthy", "Database is accessible", details=pool)

    def _close_health_connection(self) -> None:
        if self._health_connection is not None:
            self._health_connection.close()
            self._health_connection = None

    @property
    def is_open(self) -> bool:
        """Whether calls are failing fast because the server was found lost."""
        return self._breaker.is_open

    def stats(self) -> dict[str, int]:
        """Connections of this worker: most allowed, in use, free to use, and callers that wait for one."""
        in_use = self._pool.checkedout()
        size = self._settings.pool_size
        return {"size": size, "in_use": in_use, "available": size - in_use, "waiting": self._waiting}

    def close(self) -> None:
        """Close all idle connections; those in use close when they come back."""
        self._pool.dispose()
        with self._health_lock:
            self._close_health_connection()


class _NotSent(psycopg2.OperationalError):
    """No connection could be made: nothing was sent."""


_TRANSIENT = (psycopg2.OperationalError, psycopg2.InterfaceError)


def _is_idle(connection: Any) -> bool:
    """Whether an idle connection is still good. Something to read on it is, most often, the server's goodbye."""
    if connection is None or connection.closed:
        return False
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    for _ in range(3):  # a notice or a TLS ticket is consumed by libpq; after a goodbye there is always more: the end
        if not poller.poll(0):
            return True
        try:
            connection.poll()
        except psycopg2.Error:
            return False
    return False


def _retries(deadline_s: float) -> Iterator[float]:
    """When to try again (monotonic), by RETRY_AT. To be asked for the first time when the first try has failed."""
    failed_s = time.monotonic()
    left_s = min(deadline_s - failed_s, RETRY_WITHIN_S)
    for earliest, latest in RETRY_AT:
        if time.monotonic() >= deadline_s:
            return
        yield failed_s + left_s * random.uniform(earliest, latest)  # noqa: S311 - jitter, not a secret


def _failure_of(error: Exception, deadline_s: float) -> Unavailable | DeadlineExceeded:
    if isinstance(error, _TimedOut) or time.monotonic() >= deadline_s:
        return _out_of_time(deadline_s)
    return DatabaseUnavailable("The database cannot be reached")


def _out_of_time(deadline_s: float) -> Unavailable | DeadlineExceeded:
    """504 when it was the request's own time that ran out, 503 when it was the operation's."""
    request = context.current()
    if request is not None and deadline_s >= request.deadline_s:
        return DeadlineExceeded()
    return DatabaseUnavailable("The database did not answer in time")


def _statement_limit_ms(deadline_s: float) -> int:
    return max(1, int((deadline_s - time.monotonic()) * 1000) - CANCEL_MARGIN_MS)
