"""gunicorn configuration of the links service. Without its database it does not start."""

from functools import partial

from chassis.gunicorn import configure
from chassis.startup import require_database
from links.settings import Settings

globals().update(configure(Settings, service="links", before_start=partial(require_database, application="links")))
