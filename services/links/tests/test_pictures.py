"""QR pictures: what they show, and where they are kept."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zxingcpp
from gcp_storage_emulator.server import create_server
from PIL import Image

from chassis.children import free_port
from chassis.testing import CutProxy, wait_until
from chassis.testing.apps import MakeApp

LINKS = "/api/v1/links"


def make(client: Any) -> str:
    """The code of a new link."""
    return str(client.post(LINKS, json={"url": "https://example.com/"}).json["code"])


def decode(png: bytes) -> str:
    """What a scanner reads in the picture."""
    (found,) = zxingcpp.read_barcodes(Image.open(io.BytesIO(png)))
    assert found.format == zxingcpp.BarcodeFormat.QRCode
    return str(found.text)


def test_a_scanner_reads_the_short_link(
    database_url: str, redis_url: str, tmp_path: Path, make_app: MakeApp
) -> None:  # fmt: skip
    """The PNG is read by a decoder; the SVG is one; both are kept in the directory, and have validators."""
    folder = tmp_path / "new" / "qr"
    env = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "QR_DIR": str(folder)}
    client: Any = make_app(**env, PUBLIC_URL="https://shop.example/").test_client()
    code = make(client)
    png = client.get(f"/qr/{code}.png")
    assert (png.status_code, png.mimetype) == (200, "image/png")
    assert decode(png.data) == f"https://shop.example/s/{code}"
    svg = client.get(f"/qr/{code}.svg")
    assert svg.mimetype == "image/svg+xml"
    assert svg.data.startswith(b"<?xml") or svg.data.startswith(b"<svg")
    assert f"https://shop.example/s/{code}".encode() in svg.data
    assert client.get(f"/qr/{code}.svg", headers={"If-None-Match": svg.headers["ETag"]}).status_code == 304
    assert sorted(file.suffix for file in folder.iterdir()) == [".png", ".svg"]
    assert client.get(f"/qr/{code}.png").data == png.data
    assert 'links_qr_total{result="kept"} 2.0' in client.get("/metrics").text
    moved: Any = make_app(**env, PUBLIC_URL="https://other.example").test_client()
    assert decode(moved.get(f"/qr/{code}.png").data) == f"https://other.example/s/{code}"
    assert client.get(f"{LINKS}/{code}").json["clicks"] == 0
    for path in ("/qr/nothere.svg", "/qr/ab.png", f"/qr/{code}.gif", f"/qr/{code}", "/qr/..%2f..%2fetc.svg"):
        assert client.get(path).status_code == 404
    client.patch(f"{LINKS}/{code}", json={"disabled": True})
    assert client.get(f"/qr/{code}.svg").status_code == 410


def test_a_directory_that_cannot_be_used_costs_nothing_but_time(
    database_url: str, tmp_path: Path, make_app: MakeApp
) -> None:
    """Where a file is in the way of the directory, pictures are drawn each time."""
    (tmp_path / "file").touch()
    client: Any = make_app(DATABASE_URL=database_url, QR_DIR=str(tmp_path / "file" / "qr")).test_client()
    assert client.get(f"/qr/{make(client)}.png").status_code == 200


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[CutProxy]:
    """A bucket named `pictures` in an emulator of Google Cloud Storage, behind a wire that can be cut."""
    server = create_server("127.0.0.1", port := free_port(), in_memory=True, default_bucket="pictures")
    server.start()
    with CutProxy("127.0.0.1", port) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{proxy.port}")
        yield proxy
    server.stop()


def test_pictures_in_a_bucket(bucket: CutProxy, database_url: str, make_app: MakeApp) -> None:
    """They are kept there by one and found by another; while it is away they are drawn, and /health says so."""
    env: dict[str, Any] = {"DATABASE_URL": database_url, "GCS_BUCKET": "pictures", "GCS_TIMEOUT_MS": "500"}
    client: Any = make_app(**env).test_client()
    health = client.get("/health").json
    assert (health["gcs"], health["database"], health["features"]) == ("connected", "connected", ["qr", "gcs"])
    code = make(client)
    png = client.get(f"/qr/{code}.png").data
    assert client.get(f"/qr/{code}.png").data == png
    other: Any = make_app(**env).test_client()
    assert other.get(f"/qr/{code}.png").data == png
    assert 'links_qr_total{result="kept"} 1.0' in other.get("/metrics").text
    bucket.cut()
    assert client.get(f"/qr/{code}.png").data == png
    assert 'links_qr_total{result="bypass"} 1.0' in client.get("/metrics").text
    wait_until(lambda: client.get("/health").json["gcs"] == "disconnected")
    assert client.get("/health").status_code == 200
    assert client.get("/health").json["status"] == "degraded"
    assert client.get("/health/ready").status_code == 200
    bucket.heal()
    wait_until(lambda: client.get("/health").json["gcs"] == "connected")
    assert client.get(f"/qr/{code}.png").data == png
    assert 'links_qr_total{result="kept"} 2.0' in client.get("/metrics").text


def test_without_a_bucket_health_says_that_there_is_none(client: Any) -> None:
    """`gcs` is reported in any case."""
    assert client.get("/health").json["gcs"] == "not_configured"
