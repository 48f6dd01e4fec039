"""The start-up screen: where everything is, and three lines to try."""

import io
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from stack import state
from stack.plan import Plan
from stack.stores import Stores


def curl_lines(url: str, admin_key: Path) -> list[tuple[str, str]]:
    """(what it shows, the command): each works as it stands, again and again, in any directory."""
    key = f'-H "X-API-Key: $(cat {shlex.quote(str(admin_key))})"'
    return [
        ("the cheapest products in stock", f"curl -s '{url}/api/products?in_stock=true&sort=price&per_page=3'"),
        ("the first two users; this needs a key", f"curl -s '{url}/api/v1/users?per_page=2' {key}"),
        (
            "sign somebody up",
            (
                f"curl -s -X POST {url}/api/v1/users -H 'Content-Type: application/json' "
                '-d "{\\"username\\": \\"ada-$(date +%s)\\", \\"email\\": \\"ada-$(date +%s)@example.org\\"}"'
            ),
        ),
    ]


def key_line(config: Path) -> str:
    """The command that makes an API key. `config` is the directory in which the gateway's tools find the stores."""
    tool = Path(sys.executable).with_name("gateway")
    return (
        f"CONFIG_DIR={shlex.quote(str(config))} {shlex.quote(str(tool))} "
        f"keys create --name me-$(date +%s) --scope users:read"
    )


def render(plan: Plan, stores: Stores, *, admin_key: Path, config: Path, seconds: float) -> str:
    """The screen as text, with colours if the output is a terminal. No line is broken: they are for copying."""
    url = plan.url
    places = [
        ("Home page", f"{url}/"),
        ("Products", f"{url}/api/products"),
        ("Users", f"{url}/api/v1/users  (with a key)"),
        ("Short links", f"{url}/links  (to make one takes a key)"),
        ("Routes", f"{url}/api/v1/routes  (with a key)"),
        ("API documents", f"{url}/docs"),
        ("Status page", f"{url}/status"),
        ("Services", f"{url}/api/service-status"),
        ("Health", "  ".join(f"{plan.url_of(name)}/health" for name in plan.ports)),
        ("Admin key", f"{state.admin_key(admin_key)}  (also in {admin_key})"),
        ("PostgreSQL", stores.database_place),
        ("Redis", stores.redis_place),
    ]
    width = max(len(label) for label, _ in places)
    screen = Text("\n")
    screen.append(f"storefront is ready after {seconds:.1f} s: {url}\n\n", style="bold green")
    for label, place in places:
        screen.append(f"  {label:<{width}}  ", style="bold").append(f"{place}\n")
    screen.append("\n  To try in another shell:\n", style="bold")
    for what, command in [*curl_lines(url, admin_key), ("make a key for less than everything", key_line(config))]:
        screen.append(f"    # {what}\n", style="dim").append(f"    {command}\n", style="cyan")
    screen.append("\n  Ctrl-C stops everything. The data stays.\n\n", style="bold")
    return to_text(screen)


def to_text(text: Text) -> str:
    """For `Output.write`: with colours if the output is a terminal, and no line broken."""
    buffer = io.StringIO()
    console = Console(file=buffer, force_terminal=sys.stdout.isatty(), highlight=False)
    console.print(text, soft_wrap=True, end="")
    return buffer.getvalue()
