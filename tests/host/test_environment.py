"""The environment of processes that stay: what they need, and nothing that may be secret."""

from __future__ import annotations

from mooring.host.environment import minimal_environment

NEEDED = {
    "PATH": "/bin",
    "HOME": "/home/a",
    "LANG": "C",
    "LC_ALL": "C",
    "XDG_RUNTIME_DIR": "/run/user/1",
    "DOCKER_HOST": "unix:///run/docker.sock",
    "MOORING_STATE_DIR": "/s",
    "CUDA_MPS_PIPE_DIRECTORY": "/tmp/mps",
    "PYTHONPATH": "/p",
}
SECRET = (
    "AWS_SECRET_ACCESS_KEY",
    "HF_TOKEN",
    "DOCKER_PASSWORD",
    "DOCKER_AUTH_CONFIG",
    "JPY_API_TOKEN",
    "PYTHON_TOKEN",
    "XDG_TOKEN",
    "CONTAINER_PASSWORD",
    "https_proxy",
    "SSH_AUTH_SOCK",
)


def test_what_is_needed_stays_and_all_else_goes() -> None:
    """Variables are kept by name: a known prefix makes none of them harmless."""
    environ = NEEDED | dict.fromkeys(SECRET, "secret")
    assert minimal_environment(environ) == NEEDED
