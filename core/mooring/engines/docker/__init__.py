"""The Docker engine, through its HTTP API."""

from mooring.engines.docker.client import ApiError, Client
from mooring.engines.docker.connection import DOCKER_SOCKET
from mooring.engines.docker.engine import DockerEngine
from mooring.engines.docker.values import is_podman

__all__ = ["DOCKER_SOCKET", "ApiError", "Client", "DockerEngine", "is_podman"]
