"""Grafana's dashboards, as Python. `python -m observability.grafana.generator` writes them as JSON."""
