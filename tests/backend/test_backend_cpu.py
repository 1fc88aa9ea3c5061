from __future__ import annotations

import time

from backend.cpu import SLICE, Burner
from tests.backend.fake_loop import FakeLoop


def test_it_burns_as_much_processor_time_as_asked() -> None:
    loop, done = FakeLoop(), []
    start = time.thread_time()
    Burner(loop).burn(0.02, lambda: done.append(time.thread_time() - start))
    loop.run()
    assert len(done) == 1
    assert 0.02 <= done[0] < 0.2


def test_a_turn_is_one_slice_however_many_are_burning() -> None:
    loop, done = FakeLoop(), []
    burner = Burner(loop)
    for number in range(5):
        burner.burn(2 * SLICE, lambda number=number: done.append(number))
    turns = 0
    while loop.ready:
        assert len(loop.ready) == 1
        loop.turn()
        turns += 1
    # A slice may end a little late, so that two are enough; were they run to their end, it would be in one turn each.
    assert turns >= 5 + 4
    assert done == [0, 1, 2, 3, 4]


def test_a_short_burn_is_not_kept_waiting_by_a_long_one() -> None:
    loop, done = FakeLoop(), []
    burner = Burner(loop)
    burner.burn(20 * SLICE, lambda: done.append("long"))
    burner.burn(SLICE, lambda: done.append("short"))
    loop.run()
    assert done == ["short", "long"]


def test_what_is_cancelled_is_burnt_no_more() -> None:
    loop, done = FakeLoop(), []
    burner = Burner(loop)
    burn = burner.burn(1000.0, lambda: done.append("cancelled"))
    burner.burn(SLICE, lambda: done.append("other"))
    loop.turn()
    burn.cancel()
    loop.run()
    assert done == ["other"]


def test_it_can_burn_again() -> None:
    loop, done = FakeLoop(), []
    burner = Burner(loop)
    burner.burn(SLICE, lambda: burner.burn(SLICE, lambda: done.append("second")))
    loop.run()
    assert done == ["second"]
