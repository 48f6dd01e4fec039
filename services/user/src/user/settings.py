"""What the user service is configured by, next to what every service is."""

from __future__ import annotations

from pydantic import Field

from chassis.settings import DatabaseServiceSettings, RedisSettings


class Settings(DatabaseServiceSettings):
    """All settings of the user service."""

    port: int = Field(5001, ge=1, le=65535, description="port to listen on")
    redis: RedisSettings = Field(default_factory=RedisSettings)
    user_cache_ttl_seconds: int = Field(
        60, ge=1, le=3600, description="how long a page of users stays in the cache, give or take a tenth, s"
    )
    user_idempotency_hours: int = Field(
        24, ge=1, le=720, description="how long the answer to an Idempotency-Key is kept, h"
    )
