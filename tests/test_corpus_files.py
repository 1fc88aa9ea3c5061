"""The reader of the corpus reads what its docstring says, and nothing else."""

from __future__ import annotations

import pytest

from tests.corpus_files import load, parse, unescape


def test_a_refusal() -> None:
    entry = parse("a", "expect: 400 host\ntrailing: no\n-- sent\nGET /\\r\\n\n\\r\\n\n")
    assert entry.expect == ["400", "host"]
    assert entry.options["trailing"] == "no"
    assert entry.sent == b"GET /\r\n\r\n"
    assert entry.received is None


def test_what_is_passed_on_says_as_what() -> None:
    entry = parse("a", "expect: forwarded\n-- sent\nx\n-- received\ny\n")
    assert (entry.sent, entry.received) == (b"x", b"y")


@pytest.mark.parametrize(
    "text",
    [
        "expect: forwarded\n-- sent\nx\n",
        "expect: 400 x\n-- sent\nx\n-- received\ny\n",
        "expect: 400 x\nexpects: y\n-- sent\nx\n",
        "trailing: no\n-- sent\nx\n",
        "expect: 400 x\n",
        "expect: 400 x\n-- sent\n\\q\n",
    ],
)
def test_what_it_does_not_understand_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"^nasty: "):
        parse("nasty", text)


def test_escapes_and_repeats() -> None:
    assert unescape("a\\r\\n\nb\\t\\\\\\x00\\xff{ab*3}{\\r\\n*2}") == b"a\r\nb\t\\\x00\xffababab\r\n\r\n"


@pytest.mark.parametrize(("kind", "least"), [("requests", 250), ("responses", 80)])
def test_the_corpus_is_there(kind: str, least: int) -> None:
    assert len(load(kind)) >= least
