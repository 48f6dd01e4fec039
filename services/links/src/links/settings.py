"""What the links service is configured by, next to what every service is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from chassis.settings import DatabaseServiceSettings, RedisSettings

_URL = re.compile(r"https?://[A-Za-z0-9._\[\]:-]+(/[A-Za-z0-9._~/-]*)?")


def check_base_url(url: str) -> str:
    """`url` without a slash at its end.

    Raises:
        ValueError: not `http(s)://host[:port][/path]`.
    """
    if not _URL.fullmatch(url) or not urlsplit(url).hostname or urlsplit(url).port == 0:
        raise ValueError("want http(s)://host[:port][/path]")
    return url.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(check_base_url)]


class Settings(DatabaseServiceSettings):
    """All settings of the links service."""

    port: int = Field(5002, ge=1, le=65535, description="port to listen on")
    redis: RedisSettings = Field(default_factory=RedisSettings)
    public_url: BaseUrl = Field(
        "http://127.0.0.1:8000", description="where the world reaches the storefront; short links begin with it"
    )
    links_cache_ttl_seconds: int = Field(
        60, ge=1, le=3600, description="how long Redis remembers where a code leads, or that it leads nowhere, s"
    )
    use_cloud_function_redirect: bool = Field(
        False, description="`true`: /s/<code> sends to CLOUD_FUNCTION_URL/<code>, and the function counts the clicks"
    )
    cloud_function_url: BaseUrl | None = Field(
        None, validate_default=True, description="address of the redirect function"
    )
    qr_dir: Path | None = Field(None, description="directory in which QR pictures are kept; empty: a temporary one")
    gcs_bucket: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$",
        description="bucket in Google Cloud Storage in which QR pictures are kept, instead of QR_DIR",
    )
    gcs_timeout_ms: int = Field(1000, ge=10, le=10_000, description="longest wait for Google Cloud Storage, ms")

    @field_validator("cloud_function_url")
    @classmethod
    def _the_function_has_an_address(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("use_cloud_function_redirect"):
            raise ValueError("an address when USE_CLOUD_FUNCTION_REDIRECT is true")
        return value
