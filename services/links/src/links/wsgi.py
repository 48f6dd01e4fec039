"""The application that gunicorn serves."""

from chassis.settings import load
from links import create_app
from links.settings import Settings

app = create_app(load(Settings))
