"""What gunicorn serves: `gunicorn -c python:catalogue.gunicorn_conf catalogue.wsgi:app`."""

from catalogue import create_app
from catalogue.settings import Settings
from chassis.settings import load

app = create_app(load(Settings))
