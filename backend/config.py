"""Configuration: flags before the JSON file before the defaults. And who this pod is, from the Downward API.

The file is the one named by `--config`, else `/etc/config/config.json` if it is there.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec

from backend.app import Identity

DEFAULT_FILE = Path("/etc/config/config.json")

_PATH_IN_MESSAGE = re.compile(r" - at `\$\.(\w+)`$")


OnSigterm = Literal["drain", "exit"]


class ConfigError(Exception):
    """The configuration is not one we take. The message is one line: where, what, and what would be right."""


class Config(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The configuration in force. In JSON the names are camelCase."""

    host: Annotated[str, msgspec.Meta(min_length=1)] = "0.0.0.0"
    """The address to listen on; `::` is both families."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8080
    """The port to listen on; 0 is any free one, which the log tells."""
    service_name: str = "backend"
    """The Service that this pod belongs to, for people to read."""
    drain_delay: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 0.0
    """Seconds of serving on after SIGTERM, while `/readyz` is 503: until the news has reached every client."""
    on_sigterm: OnSigterm = "drain"
    """`drain`: finish what is in flight; `exit`: be gone at once, a rude pod."""
    log_requests: bool = False
    """Whether every request head is logged when it was read."""


KEYS = tuple(Config.__struct_encode_fields__)
"""The keys of the JSON file."""


def load(file: Path | None, flags: Mapping[str, object], default_file: Path = DEFAULT_FILE) -> Config:
    """Return the configuration in force. `flags` maps keys to values. Raises `ConfigError`."""
    values = _read(default_file, is_optional=True) if file is None else _read(file, is_optional=False)
    _convert(values, lambda key: f"{file or default_file}: {key}")
    for key in flags:
        _convert({key: flags[key]}, flag_name)
    return _convert({**values, **flags}, str)


def flag_name(key: str) -> str:
    """Return the flag for a key: `--drain-delay` for `drainDelay`."""
    return "--" + re.sub(r"(?=[A-Z])", "-", key).lower()


def nearest(name: str, known: tuple[str, ...]) -> str:
    """Return the known name that is most like `name`."""
    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]


def identity_from(environment: Mapping[str, str], hostname: str, service: str) -> Identity:
    """Return who this is: from the Downward API variables, elsewhere from what the machine knows."""
    return Identity(
        pod=environment.get("POD_NAME") or hostname,
        ip=environment.get("POD_IP") or None,
        namespace=environment.get("POD_NAMESPACE") or "default",
        node=environment.get("NODE_NAME") or hostname,
        service=service,
    )


def _read(file: Path, *, is_optional: bool) -> dict[str, object]:
    try:
        values = msgspec.json.decode(file.read_bytes())
    except OSError as error:
        if is_optional and isinstance(error, FileNotFoundError | NotADirectoryError):
            return {}
        raise ConfigError(f"{file}: cannot read it: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f'{file}: expected a JSON object such as {{"port": 8080}}')
    for key in values:
        if key not in KEYS:
            raise ConfigError(
                f'{file}: unknown key "{key}", the nearest is "{nearest(key, KEYS)}" (known: {", ".join(KEYS)})'
            )
    return values


def _convert(values: Mapping[str, object], where: Callable[[str], str]) -> Config:
    try:
        return msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        message = str(error)
        match = _PATH_IN_MESSAGE.search(message)
        assert match is not None
        key = match[1]
        if key == "onSigterm":
            expected = f"expected {' or '.join(get_args(OnSigterm))}"
        else:
            expected = message[: match.start()].partition(", got ")[0].replace("`", "").replace("Expected", "expected")
        raise ConfigError(f"{where(key)}: {expected}, got {json.dumps(values[key])}") from None
