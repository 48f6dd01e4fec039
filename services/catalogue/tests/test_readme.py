"""The README is true where a machine can tell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from catalogue.schemas import ProductBody, ProductParameters
from catalogue.settings import Settings
from chassis.settings import Variable, variables

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.parametrize("variable", list(variables(Settings)), ids=lambda variable: variable.name)
def test_every_variable_is_in_the_table(variable: Variable) -> None:
    """With its default, and with the meaning that the code gives it."""
    name, default = variable.name, variable.default
    shown = "the packaged one" if name == "PRODUCTS_FILE" else f"`{default}`" if default else ""
    assert f"| `{name}` | {shown} | {variable.description} |" in README


def test_no_other_variable_is_in_the_table() -> None:
    """What is no longer read is no longer promised."""
    table = README.partition("## Settings")[2].partition("## The code")[0]
    assert set(re.findall(r"^\| `([A-Z_]+)`", table, re.MULTILINE)) == {each.name for each in variables(Settings)}


def test_every_parameter_field_and_endpoint_is_named(client: FlaskClient) -> None:
    """Query parameters, a product's fields, and the route names that metrics use."""
    for name in ProductParameters.model_fields:
        assert f"`{name}`" in README
    for name in ProductBody.model_fields:
        assert f'"{name}"' in README
    for rule in client.application.url_map.iter_rules():
        assert f"`{rule.endpoint}`" in README
