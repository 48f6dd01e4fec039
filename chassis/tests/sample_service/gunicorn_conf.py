"""gunicorn configuration of the sample service."""

from chassis.gunicorn import configure
from sample_service.settings import Settings

globals().update(configure(Settings, service="sample_service"))
