"""The engine and the images, for the tests here that have Docker."""

from tests.containers.conftest import docker, images

__all__ = ["docker", "images"]
