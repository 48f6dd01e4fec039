"""gunicorn configuration of the user service. Without its database it does not start."""

from functools import partial

from chassis.gunicorn import configure
from chassis.startup import require_database
from user.settings import Settings

globals().update(configure(Settings, service="user", before_start=partial(require_database, application="user")))
