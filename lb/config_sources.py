"""Where a configuration comes from: flags, then environment, then the JSON file, then the defaults.

Flags and variables are text, converted by the type of their key; a list is written `a,b` or as JSON.

**The environment inside Kubernetes.** Into every pod of a namespace the kubelet puts variables for each Service
(`NAME_SERVICE_HOST`, `NAME_SERVICE_PORT[_PORTNAME]`, `NAME_PORT`, `NAME_PORT_8080_TCP[_PROTO|_PORT|_ADDR]`), so a
Service called `podlb`, `podlb-admin` or `podlb-backend` makes variables that begin with `PODLB_` but are not ours.
They are told apart by their names, which no key has, and `NAME_PORT` (`PODLB_PORT`, `PODLB_ADMIN_PORT`), which a
key may have too, by its value: Kubernetes' is a URL such as `tcp://10.0.0.1:80`, ours a number. Those are passed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from lb.config import Config, ConfigError
from lb.config_checks import settle, show

DEFAULT_PATH = "/etc/config/config.json"
"""Read when no other file is named, if it is there: where the manifests mount the ConfigMap."""

FILE_LIMIT = 1_048_576
"""Bytes: as large as a ConfigMap can be."""

PREFIX = "PODLB_"


class Key(NamedTuple):
    """One key and how it is spelled in each source."""

    name: str
    attribute: str
    type: Any
    default: Any

    @property
    def flag(self) -> str:
        """`--connect-timeout`."""
        return "--" + self.attribute.replace("_", "-")

    @property
    def variable(self) -> str:
        """`PODLB_CONNECT_TIMEOUT`."""
        return PREFIX + self.attribute.upper()

    @property
    def takes_list(self) -> bool:
        """Whether the value is a list."""
        return any(get_origin(part) is tuple for part in _alternatives(self.type))


KEYS: dict[str, Key] = {
    field.encode_name: Key(field.encode_name, field.name, field.type, field.default)
    for field in msgspec.structs.fields(Config)
}
"""Every key by its JSON name, in the order of `Config`."""

_BY_VARIABLE = {key.variable: key for key in KEYS.values()}

# Variables of the project that are no keys: the script that runs a cluster, and what images are made from there.
_OTHER_VARIABLES = {"PODLB_CLUSTER", "PODLB_BASE_IMAGE_TAR"}
_KUBERNETES_NAME = re.compile(r"PODLB_(.+_)?(SERVICE_(HOST|PORT(_.+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)

# Words that the documentation uses for values of another type; they are understood in every source.
_WORDS: dict[str, dict[str, bool | None]] = {
    "adminPort": {"off": None},
    "probePort": {"off": None},
    "snapshotFile": {"off": None},
    "tracing": {"off": False, "on": True},
}
_BOOLEANS = {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}
_LONGEST_INTEGER = 18  # digits; what is longer is out of every key's range
_INTEGER = re.compile(rf"[+-]?[0-9]{{1,{_LONGEST_INTEGER}}}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})([eE][+-]?[0-9]{1,3})?")


class LoadedConfig(NamedTuple):
    """A configuration and, by key, where each value comes from.

    An origin is "flag", "environment", the path of the file, "default", or, for `discovery`, "inferred".
    """

    config: Config
    origins: dict[str, str]


def load_config(
    argv_overrides: Mapping[str, str],
    environ: Mapping[str, str],
    config_path: str | None,
    *,
    default_path: str = DEFAULT_PATH,
) -> LoadedConfig:
    """Build the configuration in force.

    `argv_overrides` are the flags given, by JSON name (`{"connectTimeout": "2"}`); `config_path` is the file to read,
    or None for `default_path`, which may be absent. Raise ConfigError for the first thing that is wrong.
    """
    path = default_path if config_path is None else config_path
    data = _read(path, may_be_absent=config_path is None)
    layers = [
        (path, {} if data is None else _from_file(path, data)),
        ("environment", _from_environment(environ)),
        ("flag", _from_flags(argv_overrides)),
    ]
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    origins = dict.fromkeys(KEYS, "default")
    for origin, layer in layers:
        for name, (value, place) in layer.items():
            values[KEYS[name].attribute] = value
            places[name] = place
            origins[name] = origin
    discovery = settle(Config(**values), places)
    if values.get("discovery") is None:
        origins["discovery"] = "inferred"
    return LoadedConfig(Config(**{**values, "discovery": discovery}), origins)


def describe(loaded: LoadedConfig) -> list[tuple[str, str, str]]:
    """Return (key, value as JSON, origin) of every key, in the order of `Config`."""
    return [
        (key.name, json.dumps(getattr(loaded.config, key.attribute)), loaded.origins[key.name]) for key in KEYS.values()
    ]


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" with the name of `known` nearest to `wrong`, else advice to look them up."""
    from difflib import get_close_matches  # only a mistake needs it

    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in known}
    nearest = get_close_matches(re.sub(r"[^a-z0-9]", "", wrong.lower()), plain, n=1)
    return f"; did you mean {plain[nearest[0]]}?" if nearest else ": remove it (--help lists what is known)"


def _from_flags(flags: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    layer = {}
    for name, text in flags.items():
        key = KEYS.get(name)
        if key is None:
            flag = "--" + re.sub(r"(?<!^)([A-Z])", r"-\1", name.lstrip("-")).lower().replace("_", "-")
            raise ConfigError(f"{flag} is not a known flag{suggest(flag, (k.flag for k in KEYS.values()))}")
        layer[name] = _convert(key, _from_text(key, text, key.flag), key.flag), key.flag
    return layer


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    layer = {}
    for variable in sorted(environ):
        text = environ[variable]
        if not variable.startswith(PREFIX) or variable in _OTHER_VARIABLES or _is_kubernetes(variable, text):
            continue
        key = _BY_VARIABLE.get(variable)
        if key is None:
            raise ConfigError(f"{ascii(variable)[1:-1]} is not a known variable{suggest(variable, _BY_VARIABLE)}")
        layer[key.name] = _convert(key, _from_text(key, text, variable), variable), variable
    return layer


def _is_kubernetes(variable: str, text: str) -> bool:
    if _KUBERNETES_NAME.fullmatch(variable):
        return True
    return variable.endswith("_PORT") and _KUBERNETES_PORT.match(text) is not None


def _read(path: str, *, may_be_absent: bool) -> bytes | None:
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        if may_be_absent:
            return None
        raise ConfigError(f"{path}: there is no such file: check --config") from None
    except OSError as exc:
        raise ConfigError(f"{path}: can't be read: {exc.strerror}: mend that or name another with --config") from None
    except ValueError:
        raise ConfigError(f"{ascii(path)[1:-1]}: not the path of a file: check --config") from None
    if len(data) > FILE_LIMIT:
        raise ConfigError(f"{path}: larger than {FILE_LIMIT} bytes: not a configuration file, check --config")
    return data


def _from_file(path: str, data: bytes) -> dict[str, tuple[Any, str]]:
    document = _decode(path, data)
    if not isinstance(document, dict):
        raise ConfigError(f'{path}: a JSON object is needed, such as {{"port": 8080}}, not {show(document)}')
    layer = {}
    for name, value in document.items():
        key = KEYS.get(name)
        if key is None:
            raise ConfigError(f"{path}: {show(name)} is not a known key{suggest(name, KEYS)}")
        place = f"{path}: {name}"
        layer[name] = _convert(key, value, place), place
    return layer


def _decode(path: str, data: bytes) -> object:
    try:
        return json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_refuse_duplicates,
            parse_constant=_refuse_constant,
            parse_int=_parse_int,
        )
    except json.JSONDecodeError as exc:
        raise ConfigError(
            f"{path}: not valid JSON at line {exc.lineno}, column {exc.colno}: {exc.msg}: mend the file"
        ) from None
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: byte {exc.start} is not UTF-8: save the file as UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply: a flat JSON object is needed") from None
    except ValueError as exc:
        raise ConfigError(f"{path}: {exc}") from None


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {show(twice)} is there twice: remove one")
    return document


def _parse_int(text: str) -> int | float:
    # The longest is out of every range, so as a float it is refused with its key; int() would refuse it without.
    return int(text) if len(text) <= _LONGEST_INTEGER else float(text)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON: write a number")


def _from_text(key: Key, text: str, place: str) -> Any:
    """Return the JSON value that `text` stands for, by the type of the key. A wrong one is left for `_convert`."""
    text = text.strip()
    if key.takes_list:
        return _list_from_text(text, place)
    types = [get_origin(part) or part for part in _alternatives(key.type)]
    if text == "null" and NoneType in types:
        return None
    if bool in types:
        return _BOOLEANS.get(text.lower(), text)
    if int in types and _INTEGER.fullmatch(text):
        return int(text)
    if float in types and _NUMBER.fullmatch(text):
        return float(text)
    return text


def _list_from_text(text: str, place: str) -> Any:
    if not text.startswith("["):
        return [item.strip() for item in text.split(",")] if text else []
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_int=_parse_int)
    except (ValueError, RecursionError):
        raise ConfigError(f"{place}: {show(text)} is not a JSON list: write a,b or a valid one") from None


def _convert(key: Key, value: Any, place: str) -> Any:
    if isinstance(value, str) and value in (words := _WORDS.get(key.name, {})):
        return words[value]
    try:
        return msgspec.convert(value, type=key.type)
    except (msgspec.ValidationError, UnicodeError):  # the latter: half a surrogate pair
        raise ConfigError(f"{place}: {show(value)} is not {expectation(key.type)}") from None


def expectation(kind: Any) -> str:
    """Complete the sentence "… is not …" for a key of type `kind`."""
    described = [_describe_alternative(part) for part in _alternatives(kind, annotated=True)]
    return " or ".join(text for text in described if text)


def _describe_alternative(part: Any) -> str:
    if get_origin(part) is Annotated:
        return str(part.__metadata__[0].description)
    if get_origin(part) is Literal:
        return "one of " + ", ".join(get_args(part))
    if get_origin(part) is tuple:
        item = get_args(part)[0]
        return "a list of texts" if item is str else f"a list of which each entry is {expectation(item)}"
    return {bool: "true or false", NoneType: ""}[part]


def _alternatives(kind: Any, *, annotated: bool = False) -> Iterator[Any]:
    """Yield the members of a union, or `kind` itself, without their annotations unless `annotated`."""
    if get_origin(kind) in (Union, UnionType):
        for member in get_args(kind):
            yield from _alternatives(member, annotated=annotated)
    elif get_origin(kind) is Annotated and not annotated:
        yield from _alternatives(get_args(kind)[0])
    else:
        yield kind
