"""Paths that clients send: they lead to what lies below the root, and nowhere else."""

from __future__ import annotations

from pathlib import Path

from tests.server.inprocess import InProcess


def test_a_link_out_of_the_root_is_not_followed(
    server: InProcess, project: Path, tmp_path: Path
) -> None:
    """A path counts by where it leads: a link to a file outside is outside."""
    (tmp_path / "secret.yml").write_text("name: s\n")
    (project / "in.yml").symlink_to(tmp_path / "secret.yml")
    (project / "folder").symlink_to(tmp_path)
    for file in ("in.yml", "folder/secret.yml"):
        assert server.ask("POST", "/sessions", {"file": file})[0] == 403
    assert server.ask("GET", "/specs?path=folder")[0] == 403
    assert server.ask("GET", "/specs") == (200, {"specs": []})
