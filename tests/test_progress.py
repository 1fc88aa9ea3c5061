"""Does a body that stands still make progress after all?"""

from __future__ import annotations

from lb.progress import LOOKS, Progress

TIMEOUT = 60.0
NOW = 1000.0


def test_the_first_look_counts_as_progress() -> None:
    progress = Progress()
    assert progress.looked(500, NOW) == 0.0


def test_while_nothing_is_taken_the_time_grows() -> None:
    progress = Progress()
    progress.looked(500, NOW)
    assert progress.looked(500, NOW + 15.0) == 15.0
    assert progress.looked(500, NOW + 30.0) == 30.0


def test_nothing_to_take_is_no_progress_either() -> None:
    progress = Progress()
    progress.looked(0, NOW)
    assert progress.looked(0, NOW + 15.0) == 15.0


def test_every_byte_that_is_taken_is_progress() -> None:
    progress = Progress()
    progress.looked(500, NOW)
    assert progress.looked(499, NOW + 15.0) == 0.0
    assert progress.looked(499, NOW + 30.0) == 15.0
    assert progress.looked(0, NOW + 45.0) == 0.0


def test_more_that_is_not_taken_is_no_progress() -> None:
    progress = Progress()
    progress.looked(500, NOW)
    assert progress.looked(600, NOW + 15.0) == 15.0
    # What was more at the last look and is less now was taken.
    assert progress.looked(550, NOW + 30.0) == 0.0


def test_a_piece_that_was_passed_on_is_progress() -> None:
    progress = Progress()
    progress.looked(500, NOW)
    progress.looked(500, NOW + 15.0)
    progress.piece_passed()
    assert progress.looked(900, NOW + 30.0) == 0.0
    assert progress.looked(900, NOW + 45.0) == 15.0


def test_a_body_that_stands_still_ends_up_to_a_quarter_late_and_never_early() -> None:
    progress = Progress()
    progress.piece_passed()
    now = NOW
    still = 0.0
    while still < TIMEOUT:
        now += TIMEOUT / LOOKS
        still = progress.looked(500, now)
    assert TIMEOUT <= now - NOW <= TIMEOUT * (1 + 1 / LOOKS)
