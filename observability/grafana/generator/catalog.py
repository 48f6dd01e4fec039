"""All dashboards, and where each is kept."""

from observability.grafana.generator.boards import (
    gateway,
    load,
    logs,
    monitoring,
    postgres,
    python,
    redis,
    runbook,
    service,
    slo,
)
from observability.grafana.generator.model import Board
from observability.grafana.generator.services import SERVICES


def boards(runbook_text: str) -> list[Board]:
    """Every dashboard; `runbook_text` is the Markdown of the runbook."""
    return [
        slo.board(),
        gateway.board(),
        *(service.board(one) for one in SERVICES),
        postgres.board(),
        redis.board(),
        python.board(),
        logs.board(),
        load.board(),
        monitoring.board(),
        runbook.board(runbook_text),
    ]


def path_of(board: Board) -> str:
    """Its file below `dashboards/`."""
    return f"{board.folder}/{board.uid.removeprefix('storefront-')}.json"
