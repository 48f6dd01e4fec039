"""The user page as a FastAPI author would write it for speed: asyncpg pool, redis.asyncio, orjson, uvloop, httptools.

A page from the cache is answered with the bytes as they lie in Redis, without parsing or validating them again.

DATABASE_URL=… REDIS_URL=… uvicorn --factory loadtest.baseline.fastapi_users:create_app \
    --loop uvloop --http httptools --no-access-log
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg  # type: ignore[import-untyped]
import orjson
import redis.asyncio as redis
from fastapi import FastAPI, Query, Response

from loadtest.baseline.kit import ObserveAsgi, exposition
from loadtest.baseline.users_page import COLUMNS, DEFAULT_PER_PAGE, MAX_PER_PAGE, TOTAL_SQL, page_answer

_TTL_S = 60
_PAGE_SQL = f"SELECT {', '.join(COLUMNS)} FROM users ORDER BY id LIMIT $1 OFFSET $2"


def create_app() -> FastAPI:
    """The page at `GET /api/v1/users`, cached for 60 s; stores by DATABASE_URL and REDIS_URL."""

    @asynccontextmanager
    async def stores(app: FastAPI) -> AsyncIterator[None]:
        app.state.pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=10)
        app.state.cache = redis.Redis.from_url(
            os.environ["REDIS_URL"], socket_timeout=0.2, socket_connect_timeout=0.2, max_connections=64
        )
        yield
        await app.state.cache.aclose()
        await app.state.pool.close()

    app = FastAPI(lifespan=stores, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(ObserveAsgi, service="fastapi_users")

    @app.get("/api/v1/users")
    async def users(
        page: Annotated[int, Query(ge=1)] = 1, per_page: Annotated[int, Query(ge=1)] = DEFAULT_PER_PAGE
    ) -> Response:
        per_page = min(per_page, MAX_PER_PAGE)
        key = f"fastapi_users:page:{page}:{per_page}"
        try:
            cached: bytes | None = await app.state.cache.get(key)
        except redis.RedisError:
            cached = None
        if cached is not None:
            return Response(cached, media_type="application/json", headers={"X-Cache": "HIT"})
        async with app.state.pool.acquire() as connection:
            rows = await connection.fetch(_PAGE_SQL, per_page, (page - 1) * per_page)
            total = await connection.fetchval(TOTAL_SQL)
        body = orjson.dumps(page_answer(map(tuple, rows), page=page, per_page=per_page, total=total))
        try:
            await app.state.cache.set(key, body, ex=_TTL_S)
        except redis.RedisError:
            return Response(body, media_type="application/json", headers={"X-Cache": "BYPASS"})
        return Response(body, media_type="application/json", headers={"X-Cache": "MISS"})

    @app.get("/metrics")
    async def metrics() -> Response:
        body, content_type = exposition()
        return Response(body, headers={"content-type": content_type})

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "alive"}

    return app
