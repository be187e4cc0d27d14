"""why: what a session waits for, lacks or leaves unused."""

from __future__ import annotations

from typing import Any

from mooring_cli.why import signals_text


def test_why_tells_what_is_waited_for_and_what_is_unused(stage: Any) -> None:
    """A pending session's wait, a lost GPU, and an unused one."""
    assert "waiting  1st in the queue for 4 GPUs; held by bert-finetune (alice)" in stage.said(
        "mooring why sweep-07", 200
    )
    assert "diffusion-xl is running (gpu lost)" in stage.said("mooring why diffusion-xl", 80)
    assert "0.5, unused for 25m" in stage.said("mooring why vision-lab", 80)


def test_signals_in_words() -> None:
    """The signals of a stop are told as times, and what is not one stays as it is."""
    raw = "kernel=1803 terminal=never gpu=0 cpu=0.1% odd x=99999999999"
    words = "kernel 30m ago, terminal never, gpu 0s ago, cpu 0.1%, odd, x 99999999999"
    assert signals_text(raw) == words
    assert signals_text("") == ""
