"""The event loop to run on: `new_event_loop(name)`. Stands alone, and is the only importer of uvloop."""

from __future__ import annotations

import asyncio
import importlib.util


class LoopUnavailableError(Exception):
    """The loop asked for cannot be had here. One line that says why, and what to do."""


def resolve_loop_name(name: str) -> str:
    """Return the loop that `name` ("auto", "uvloop", "asyncio") stands for here. Raises LoopUnavailableError."""
    has_uvloop = importlib.util.find_spec("uvloop") is not None
    if name == "auto":
        return "uvloop" if has_uvloop else "asyncio"
    if name == "asyncio" or (name == "uvloop" and has_uvloop):
        return name
    if name == "uvloop":
        raise LoopUnavailableError("loop: uvloop is not installed: run `pip install uvloop`, or set loop to asyncio")
    raise LoopUnavailableError(f"loop: {name} is not built yet: set loop to auto, uvloop or asyncio")


def new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    """Return a new loop of the kind that `resolve_loop_name` gives. Raises LoopUnavailableError."""
    if resolve_loop_name(name) == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()
