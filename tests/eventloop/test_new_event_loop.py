"""Which event loop a name stands for."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys

import pytest

from lb import eventloop
from lb.eventloop import LoopUnavailableError, new_event_loop, resolve_loop_name

HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None


@pytest.fixture
def without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let uvloop be absent."""
    monkeypatch.setattr(eventloop.importlib.util, "find_spec", lambda name: None)


@pytest.fixture
def with_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let uvloop be there."""
    monkeypatch.setattr(eventloop.importlib.util, "find_spec", lambda name: object() if name == "uvloop" else None)


@pytest.fixture
def with_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let epoll be there."""
    monkeypatch.setattr(eventloop.select, "epoll", object(), raising=False)


@pytest.fixture
def without_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let epoll be absent."""
    monkeypatch.delattr(eventloop.select, "epoll", raising=False)


@pytest.mark.usefixtures("with_uvloop", "with_epoll")
@pytest.mark.parametrize(
    ("name", "resolved"), [("auto", "epoll"), ("epoll", "epoll"), ("uvloop", "uvloop"), ("asyncio", "asyncio")]
)
def test_where_there_is_epoll_it_is_ours(name: str, resolved: str) -> None:
    assert resolve_loop_name(name) == resolved


@pytest.mark.usefixtures("with_uvloop", "without_epoll")
def test_without_epoll_it_is_uvloop() -> None:
    assert resolve_loop_name("auto") == "uvloop"


@pytest.mark.usefixtures("without_uvloop", "without_epoll")
@pytest.mark.parametrize("name", ["auto", "asyncio"])
def test_without_either_it_is_asyncio(name: str) -> None:
    assert resolve_loop_name(name) == "asyncio"


@pytest.mark.usefixtures("without_uvloop")
def test_uvloop_that_is_not_there_is_refused_with_what_to_do() -> None:
    with pytest.raises(LoopUnavailableError, match="pip install uvloop") as caught:
        resolve_loop_name("uvloop")
    assert "asyncio" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(LoopUnavailableError):
        new_event_loop("uvloop")


def test_epoll_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(eventloop.select, "epoll", raising=False)
    with pytest.raises(LoopUnavailableError, match="on Linux only: set loop to"):
        new_event_loop("epoll")


@pytest.mark.parametrize("name", ["trio", ""])
def test_what_is_not_known_is_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(LoopUnavailableError, match="not known: set loop to") as caught:
        resolve_loop_name(name)
    assert f"loop: {name}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_new_loop_each_time() -> None:
    first, second = new_event_loop("asyncio"), new_event_loop("asyncio")
    try:
        assert first is not second
        assert isinstance(first, asyncio.BaseEventLoop)
        assert not first.is_running()
    finally:
        first.close()
        second.close()


def test_auto_is_a_loop_that_runs() -> None:
    loop = new_event_loop("auto")
    try:
        assert (
            type(loop).__module__.partition(".")[0]
            == {"epoll": "lb", "uvloop": "uvloop", "asyncio": "asyncio"}[resolve_loop_name("auto")]
        )
        assert loop.run_until_complete(asyncio.sleep(0, "done")) == "done"
    finally:
        loop.close()


def test_importing_it_imports_neither_uvloop_nor_anything_else_of_lb() -> None:
    code = "import sys, lb.eventloop; print(sorted(n for n in sys.modules if n.split('.')[0] in ('lb', 'uvloop')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['lb', 'lb.eventloop']"
