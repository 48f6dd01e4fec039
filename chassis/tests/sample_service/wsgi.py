"""The application that gunicorn serves."""

from chassis.settings import load
from sample_service import create_app
from sample_service.settings import Settings

app = create_app(load(Settings))
