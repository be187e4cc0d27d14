"""What notebooks do in cells, done through a kernel that was forked in a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from mooring.client import Mooring
from tests.support.kernel_clients import debug, install, jupyter, kernel, run, wait_for_event

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine


def test_what_cells_do_works(mooring: Mooring, jupyter: Path) -> None:
    """Displays and their updates, plots, shell cells, pools of both kinds, completion, errors."""
    with kernel(install()) as (_, client):
        shown = run(
            client,
            "from IPython.display import display\n"
            "h = display('one', display_id=True)\nh.update('two')",
        )
        (first,), (second,) = shown.of("display_data"), shown.of("update_display_data")
        assert first["transient"]["display_id"] == second["transient"]["display_id"]
        assert second["data"]["text/plain"] == "'two'"

        plot = run(client, "%matplotlib inline\nimport matplotlib.pyplot as p; p.plot([1, 2]);")
        assert "image/png" in plot.of("display_data")[0]["data"]

        assert run(client, "%%bash\necho $((6 * 7)); cd /; pwd").text == "42\n/"
        assert run(client, "!echo from a shell").text == "from a shell"

        for method in ("spawn", "fork"):
            pooled = run(
                client,
                "import multiprocessing, operator, functools\n"
                f"with multiprocessing.get_context('{method}').Pool(2) as pool:\n"
                "    print(pool.map(functools.partial(operator.mul, 2), range(4)))",
            )
            assert pooled.text == "[0, 2, 4, 6]", method

        code = "import collections; collections.Ordered"
        run(client, "import collections")
        completed = client.complete(code, len(code), reply=True, timeout=30)["content"]
        assert any(match.endswith("OrderedDict") for match in completed["matches"])
        inspected = client.inspect("print", 5, reply=True, timeout=30)["content"]
        assert inspected["found"]

        assert run(client, "1 / 0").error == "ZeroDivisionError"
        assert run(client, "raise SystemExit").error == "SystemExit"
        assert run(client, "'still here'").text == "'still here'"


def test_a_cell_can_ask(mooring: Mooring, jupyter: Path) -> None:
    """input() reaches the client, and its answer the cell."""
    with kernel(install()) as (_, client):
        asked: list[str] = []

        def answer(message: dict) -> None:
            asked.append(message["content"]["prompt"])
            client.input("mooring")

        told = run(client, "print('hello', input('who? '))", stdin_hook=answer, allow_stdin=True)
        assert asked == ["who? "]
        assert told.text == "hello mooring"


def test_comms_go_both_ways(mooring: Mooring, jupyter: Path) -> None:
    """Messages of widgets: the kernel opens one, the client answers, and the other way round."""
    with kernel(install()) as (_, client):
        opened = run(
            client,
            "from comm import create_comm, get_comm_manager\n"
            "heard = []\n"
            "c = create_comm(target_name='panel', data={'at': 1})\n"
            "c.on_msg(lambda m: (heard.append(m['content']['data']), c.send({'echo': 2})))\n"
            "get_comm_manager().register_target('kernel', lambda c, m: heard.append('opened'))",
        )
        (comm,) = opened.of("comm_open")
        assert comm["target_name"] == "panel"
        content = {"comm_id": comm["comm_id"], "data": {"value": 7}}
        client.shell_channel.send(client.session.msg("comm_msg", content))
        content = {"comm_id": "other", "target_name": "kernel", "data": {}}
        client.shell_channel.send(client.session.msg("comm_open", content))
        echoed = None
        while echoed is None:
            message = client.get_iopub_msg(timeout=30)
            echoed = message["content"] if message["msg_type"] == "comm_msg" else None
        assert echoed["data"] == {"echo": 2}
        assert run(client, "heard").text == "[{'value': 7}, 'opened']"


def test_the_debugger_stops_at_a_breakpoint(mooring: Mooring, jupyter: Path) -> None:
    """A forked kernel is debugged over its control channel: attach, break, look, go on."""
    with kernel(install()) as (manager, client):
        assert "debugger" in client.kernel_info(reply=True, timeout=30)["content"].get(
            "supported_features", ["debugger"]
        )
        for _ in range(2):  # and once more after a restart
            code = "def f(x):\n    y = x + 1\n    return y\nf(41)"
            assert debug(client, 1, "initialize", clientID="t", adapterID="")["success"]
            assert debug(client, 2, "attach")["success"]
            wait_for_event(client, "initialized")
            dumped = debug(client, 3, "dumpCell", code=code)
            source = {"path": dumped["body"]["sourcePath"]}
            placed = debug(
                client,
                4,
                "setBreakpoints",
                source=source,
                breakpoints=[{"line": 2}],
                sourceModified=False,
            )
            assert placed["body"]["breakpoints"][0]["verified"]
            assert debug(client, 5, "configurationDone")["success"]
            request = client.execute(code)
            thread = wait_for_event(client, "stopped")["body"]["threadId"]
            frames = debug(client, 6, "stackTrace", threadId=thread)["body"]["stackFrames"]
            assert (frames[0]["name"], frames[0]["line"]) == ("f", 2)
            value = debug(client, 7, "evaluate", expression="x", frameId=frames[0]["id"])
            assert value["body"]["result"] == "41"
            assert debug(client, 8, "continue", threadId=thread)["success"]
            while True:
                reply = client.get_shell_msg(timeout=60)
                if reply["parent_header"]["msg_id"] == request:
                    break
            assert reply["content"]["status"] == "ok"
            assert debug(client, 9, "disconnect", restart=False, terminateDebuggee=False)["success"]
            manager.restart_kernel(now=True)
            client.wait_for_ready(timeout=60)
