"""What was read of a request's body, for as long as it may have to be sent again."""

from __future__ import annotations

from lb.attempts import HeldBody


def test_an_empty_one_is_whole() -> None:
    body = HeldBody(10)
    assert body.is_whole
    assert list(body.pieces()) == []
    assert body.size == 0


def test_pieces_are_kept_in_order() -> None:
    body = HeldBody(10)
    for piece in (b"abc", b"d", b"ef"):
        body.add(piece, sent=True)
    assert b"".join(body.pieces()) == b"abcdef"
    assert body.size == 6
    assert body.is_whole


def test_before_anything_was_sent_all_is_kept() -> None:
    body = HeldBody(3)
    body.add(b"abc", sent=False)
    body.add(b"defg", sent=False)
    assert body.is_whole
    assert b"".join(body.pieces()) == b"abcdefg"
    assert body.size == 7


def test_what_is_above_the_limit_is_let_go_once_it_was_sent() -> None:
    body = HeldBody(3)
    body.add(b"abcd", sent=False)
    body.was_sent()
    assert not body.is_whole
    assert list(body.pieces()) == []


def test_what_is_just_the_limit_is_kept() -> None:
    body = HeldBody(3)
    body.add(b"abc", sent=False)
    body.was_sent()
    assert body.is_whole
    assert b"".join(body.pieces()) == b"abc"
    body.add(b"d", sent=True)
    assert not body.is_whole
    assert list(body.pieces()) == []


def test_once_let_go_nothing_more_is_kept() -> None:
    body = HeldBody(0)
    body.add(b"a", sent=True)
    for sent in (False, True):
        body.add(b"b", sent=sent)
        assert list(body.pieces()) == []
    assert body.size == 1
    assert not body.is_whole
    assert list(body.pieces()) == []


def test_a_limit_of_zero_holds_an_empty_body() -> None:
    body = HeldBody(0)
    body.was_sent()
    assert body.is_whole
