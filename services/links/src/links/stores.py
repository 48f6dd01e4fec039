"""Where QR pictures are kept: a directory, or a bucket in Google Cloud Storage. Either may be away."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from chassis.breaker import CircuitBreaker
from chassis.health import Result

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)
T = TypeVar("T")

BREAKER_RESET_S = 2.0


class StoreUnavailable(Exception):
    """The store cannot be used now. Go on without it."""


class Store(Protocol):
    """Keeps pictures by name. Names are ours: letters, digits, a dot.

    Raises (both methods): StoreUnavailable.
    """

    def get(self, name: str) -> bytes | None:
        """What is kept under `name`, None if nothing is."""

    def put(self, name: str, data: bytes, content_type: str) -> None:
        """Keep `data` under `name`."""


class Directory:
    """Pictures in files. The directory is made when the first comes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, name: str) -> bytes | None:
        """See Store."""
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable(type(error).__name__) from error

    def put(self, name: str, data: bytes, content_type: str) -> None:  # noqa: ARG002 - a file's name says its type
        """See Store. Nobody ever sees half a file."""
        try:
            self._path.mkdir(mode=0o755, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._path, delete=False) as file:
                file.write(data)
            Path(file.name).chmod(0o644)
            os.replace(file.name, self._path / name)  # noqa: PTH105 - the name is a string
        except OSError as error:
            raise StoreUnavailable(type(error).__name__) from error


class Bucket:
    """Pictures in a bucket. Each call is bounded by `timeout_s` and not repeated; after one failure the others fail at
    once for two seconds.

    The client is made when it is first needed, in the worker: its library takes half a second to import, and looks
    for credentials. STORAGE_EMULATOR_HOST, which the library reads, leads to an emulator without credentials.
    """

    def __init__(self, name: str, *, timeout_s: float) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._client: Any = None
        self._breaker = CircuitBreaker(reset_s=BREAKER_RESET_S, on_change=self._log_change)

    def get(self, name: str) -> bytes | None:
        """See Store."""
        from google.api_core.exceptions import NotFound

        def download() -> bytes | None:
            try:
                data: bytes = self._bucket().blob(name).download_as_bytes(timeout=self._timeout_s, retry=None)
            except NotFound:
                return None
            return data

        return self._guarded(download)

    def put(self, name: str, data: bytes, content_type: str) -> None:
        """See Store."""

        def upload() -> None:
            self._bucket().blob(name).upload_from_string(
                data, content_type=content_type, timeout=self._timeout_s, retry=None
            )

        self._guarded(upload)

    def check(self, limit_s: float) -> Result:
        """Ask for one name in the bucket: that needs no more rights than keeping pictures does."""
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import RequestException

        try:
            timeout_s = min(limit_s, self._timeout_s)
            next(iter(self._storage().list_blobs(self._name, max_results=1, timeout=timeout_s, retry=None)), None)
        except (GoogleAPIError, GoogleAuthError, RequestException, OSError) as error:
            return Result("unhealthy", "The bucket is not accessible, QR codes are drawn anew", error=_name_of(error))
        self._breaker.success()
        return Result("healthy", "The bucket is accessible")

    def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _storage(self) -> Any:
        if self._client is None:
            from google.cloud import storage

            self._client = storage.Client()
        return self._client

    def _bucket(self) -> Any:
        return self._storage().bucket(self._name)

    def _guarded(self, call: Callable[[], T]) -> T:
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.storage.exceptions import DataCorruption
        from requests.exceptions import RequestException

        if not self._breaker.allow():
            raise StoreUnavailable("resting")
        try:
            result = call()
        except (GoogleAPIError, GoogleAuthError, RequestException, DataCorruption, OSError) as error:
            self._breaker.failure()
            raise StoreUnavailable(_name_of(error)) from error
        self._breaker.success()
        return result

    def _log_change(self, is_open: bool) -> None:
        if is_open:
            log.warning("The bucket %s is unavailable, going on without it", self._name)
        else:
            log.info("The bucket %s is available again", self._name)


def _name_of(error: Exception) -> str:
    return type(error).__name__
