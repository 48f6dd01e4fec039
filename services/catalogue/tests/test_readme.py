"""The README is true where a machine can tell."""

from __future__ import annotations

from pathlib import Path

from flask.testing import FlaskClient

from catalogue.schemas import ProductBody, ProductParameters

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_parameter_field_and_endpoint_is_named(client: FlaskClient) -> None:
    """Query parameters, a product's fields, and the route names that metrics use."""
    for name in ProductParameters.model_fields:
        assert f"`{name}`" in README
    for name in ProductBody.model_fields:
        assert f'"{name}"' in README
    for rule in client.application.url_map.iter_rules():
        assert f"`{rule.endpoint}`" in README
