"""A flag for each key."""

from __future__ import annotations

import argparse

import pytest

from lb.config import ConfigError
from lb.config_checks import NOT_BUILT
from lb.config_flags import HELP, add_flags, flag_overrides
from lb.config_sources import KEYS, load_config


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_flags(parser)
    return parser


def test_every_key_has_a_flag_and_a_help(parser: argparse.ArgumentParser) -> None:
    text = " ".join(parser.format_help().split())
    assert HELP.keys() == KEYS.keys()
    for key in KEYS.values():
        assert f"{key.flag} " in text
    assert "port for clients; 0 is any free one (default 8080)" in text


def test_the_help_says_what_is_not_built() -> None:
    assert {key for key, text in HELP.items() if "not built yet" in text} == NOT_BUILT.keys()


def test_only_what_is_given_is_handed_on(parser: argparse.ArgumentParser) -> None:
    namespace = parser.parse_args(["--connect-timeout", "2", "--panic=true"])
    assert flag_overrides(namespace) == {"connectTimeout": "2", "panic": "true"}


def test_the_flags_make_a_configuration(parser: argparse.ArgumentParser) -> None:
    namespace = parser.parse_args(["--backends", "a:1", "--backends", "b:2,c:3", "--max-connections", "7"])
    config = load_config(flag_overrides(namespace), {}, None, default_path="/nonexistent").config
    assert config.backends == ("a:1", "b:2", "c:3")
    assert config.max_connections == 7


def test_other_names_in_the_namespace_are_left_alone(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config")
    assert flag_overrides(parser.parse_args(["--config", "x"])) == {}


def test_a_flag_twice_is_a_usage_error(parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--port", "1", "--port", "2"])
    assert caught.value.code == 2
    assert "--port is given twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "part"),
    [
        ("--conect-timeout=1", "--conect-timeout is not a known flag; did you mean --connect-timeout?"),
        ("--zzzzzzzz", "remove it"),
        ("stray", "'stray' is not understood"),
    ],
)
def test_an_unknown_flag_gets_the_nearest_known_one(parser: argparse.ArgumentParser, argument: str, part: str) -> None:
    namespace, unknown = parser.parse_known_args([argument])
    with pytest.raises(ConfigError) as caught:
        flag_overrides(namespace, unknown)
    assert part in str(caught.value)
