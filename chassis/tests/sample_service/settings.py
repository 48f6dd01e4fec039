"""Settings of the sample service."""

from __future__ import annotations

from pydantic import Field

from chassis.settings import DatabaseServiceSettings, RedisSettings


class Settings(DatabaseServiceSettings):
    """A database, a cache, and one number of its own."""

    redis: RedisSettings = Field(default_factory=RedisSettings)
    note_limit: int = Field(10, ge=1, le=100, description="how many notes")
