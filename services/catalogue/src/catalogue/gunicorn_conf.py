"""gunicorn's configuration of the catalogue."""

from catalogue.settings import Settings
from chassis.gunicorn import configure

globals().update(configure(Settings, service="catalogue"))
