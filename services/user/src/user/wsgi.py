"""The application that gunicorn serves."""

from chassis.settings import load
from user import create_app
from user.settings import Settings

app = create_app(load(Settings))
