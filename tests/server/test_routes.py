"""The routes, and the OpenAPI document: valid, and of exactly what there is."""

from __future__ import annotations

from openapi_spec_validator import validate

from mooring.sessions.model import FIELDS
from mooring_server_extension.routes import openapi
from tests.server.inprocess import API, InProcess, operations


def test_the_document_is_valid() -> None:
    """It is an OpenAPI 3.1 document."""
    validate(openapi())


def test_the_document_and_the_routes_agree() -> None:
    """Every path and method that is served is described, and the other way round."""
    described = {
        (method, path)
        for path, item in openapi()["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert described == {(method, path) for method, path, _ in operations()}


def test_the_document_describes_every_field_of_a_session() -> None:
    """A field that is added to sessions must be described."""
    schema = openapi()["components"]["schemas"]["Session"]
    assert set(FIELDS) <= set(schema["required"]) == set(schema["properties"])


def test_the_document_is_served(server: InProcess) -> None:
    """A client finds it at the API's own address."""
    assert server.ask("GET", "/openapi.json") == (200, openapi())


def test_a_path_that_is_none_is_said_in_the_apis_words(server: InProcess) -> None:
    """Every path below the API's answers in JSON."""
    for method in ("GET", "POST", "DELETE"):
        status, reply = server.ask(method, "/nothing/here")
        assert (status, reply["code"]) == (404, "not_found")
    answer = server.send("PUT", API + "/status", headers={"Authorization": f"token {server.token}"})
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
