"""save, build, push, --rank, --save-image: rejected because this version does not support them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mooring import NotSupported

HELP = "Not supported by this version."


def _refuse_rank(value: str | None) -> None:
    if value is not None:
        raise NotSupported(
            "--rank is not supported by this version", "omit it: a session is on one machine"
        )


def _refuse_save_image(value: Any) -> None:
    if value:
        raise _cannot_save("--save-image")


# For `attach` and `exec`; a parameter of this type is always None
Rank = Annotated[str | None, typer.Option(hidden=True, help=HELP, callback=_refuse_rank)]
# For `create`, as in Beaker; a parameter of this type is always None
SaveImage = Annotated[
    bool | None,
    typer.Option("--save-image", hidden=True, help=HELP, callback=_refuse_save_image),
]


def save(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="NAME IMAGE[:TAG]")] = None,
    push: Annotated[bool, typer.Option("--push", help="Also push it to its registry.")] = False,
) -> None:
    """Save a session as an image; not supported by this version."""
    raise _cannot_save("mooring save --push" if push else "mooring save")


def build(arguments: Annotated[list[str] | None, typer.Argument(metavar="...")] = None) -> None:
    """Build an image; not supported by this version."""
    raise NotSupported(
        "mooring build is not supported by this version",
        "build the image with docker build, then name it with --image",
    )


def push(arguments: Annotated[list[str] | None, typer.Argument(metavar="...")] = None) -> None:
    """Push an image; not supported by this version."""
    raise NotSupported("mooring push is not supported by this version", "use docker push IMAGE")


def _cannot_save(what: str) -> NotSupported:
    return NotSupported(
        f"{what} is not supported by this version",
        "stop keeps a session with all its files: mooring stop NAME, mooring start NAME",
    )


def register(app: typer.Typer) -> None:
    """Add the commands to the command line, hidden."""
    anything = {"ignore_unknown_options": True}
    for command in (save, build, push):
        app.command(hidden=True, context_settings=anything)(command)
