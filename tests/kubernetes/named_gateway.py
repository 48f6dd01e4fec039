"""What gunicorn serves in a rehearsal: the gateway, with names from `stand_ins.Names`."""

from chassis.gunicorn import settings_or_exit
from gateway import create_app
from gateway.settings import Settings
from tests.kubernetes.stand_ins import look_up

app = create_app(settings_or_exit(Settings), addresses_of=look_up)
