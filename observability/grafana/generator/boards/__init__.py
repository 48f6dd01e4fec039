"""The dashboards, one module each; `generator.boards` lists them."""
