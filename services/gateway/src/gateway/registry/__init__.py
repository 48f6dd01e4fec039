"""The control plane: the registry of routes.

Its place only. It will be a Flask application over PostgreSQL, mounted beside the edge in the same process, that
stores routes (tenant, service, environment, version, URL, weight) with an audit trail and an outbox, and feeds the
edge's route table; until then `gateway.edge.routes.static_routes` is that table.
"""
