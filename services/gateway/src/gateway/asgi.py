"""What gunicorn serves: `gateway.asgi:app`."""

from chassis.gunicorn import settings_or_exit
from gateway import create_app
from gateway.settings import Settings

app = create_app(settings_or_exit(Settings))
