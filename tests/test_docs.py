"""What the documentation names exists: paths, classes, functions, methods and configuration keys."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import msgspec
import pytest

from lb.config import Config
from lb.config_checks import NOT_BUILT
from tests.documented import documented_ids

ROOT = Path(__file__).parents[1]
KEYS = {field.encode_name: field for field in msgspec.structs.fields(Config)}

# Words in code font that are not names in the code.
_MADE_LATER = {".venv"}
_WORDS = {
    "run",
    "check",
    "demo",
    "make test",
    "podlb demo",
    "podlb top",
    "Connection: close",
    "/metrics",
    "/stats.json",
}


def _names_in_code() -> set[str]:
    """Return every function and class as `name`, every method and attribute as `Class.name`."""
    names: set[str] = set()
    for folder in ("lb", "backend", "bench"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    names.add(node.name)
                elif isinstance(node, ast.ClassDef):
                    names.add(node.name)
                    names.update(f"{node.name}.{member}" for member in _members(node))
    return names


def _members(cls: ast.ClassDef) -> set[str]:
    members: set[str] = set()
    for node in ast.walk(cls):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            members.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            members.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            members.add(node.target.id)
    return members


def _code_words(page: str) -> set[str]:
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`([^`\n]+)`", text))


def _is_path(word: str) -> bool:
    return re.fullmatch(r"\.?[\w./-]+", word) is not None and ("/" in word or word.startswith(".")) and word[0] != "/"


@pytest.mark.parametrize(
    "page", ["README.md", "docs/how-it-works.md", "docs/behaviour.md", "docs/configuration.md", "docs/monitoring.md"]
)
def test_every_path_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    links = {link.partition("#")[0] for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text)} - {""}
    missing = [link for link in links if not ((ROOT / page).parent / link).exists()]
    paths = {word.rstrip("/") for word in _code_words(page) if _is_path(word)} - _MADE_LATER
    missing += [path for path in paths if not (ROOT / path).exists()]
    assert not missing


def test_every_test_that_the_behaviour_names_exists() -> None:
    # Also in a run of this file alone; documented.py asks in a whole run whether they ran.
    ids = documented_ids((ROOT / "docs/behaviour.md").read_text())
    assert [name for name in ids if not _is_test(name)] == []
    assert len(ids) > 40


_NAMED = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _is_test(name: str) -> bool:
    path, *names = name.split("::")
    if not (ROOT / path).is_file():
        return False
    nodes = ast.parse((ROOT / path).read_text()).body
    for part in names:
        found = [n for n in nodes if isinstance(n, _NAMED) and n.name == part]
        if not found:
            return False
        nodes = found[0].body
    return True


def test_every_name_in_the_reading_order_exists() -> None:
    known = _names_in_code() | set(KEYS) | _WORDS
    words = {word for word in _code_words("docs/how-it-works.md") if not _is_path(word)}
    assert len(words) > 40
    assert sorted(words - known) == []


def test_the_readme_has_every_key_with_its_default() -> None:
    text = (ROOT / "README.md").read_text()
    section = text.split("## Configuration")[1].split("## How it behaves")[0]
    table, later = section.split("Keys that later versions bring")
    rows = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        keys = re.findall(r"`(\w+)`", cells[0])
        if len(cells) == 3 and keys:
            defaults = cells[1].split(", ") if len(keys) > 1 else [cells[1]]
            rows.update(zip(keys, defaults, strict=True) if len(defaults) == len(keys) else {})
    assert set(KEYS) - set(rows) - set(re.findall(r"`(\w+)", later)) == set()
    for key, shown in rows.items():
        default = KEYS[key].default
        if isinstance(default, bool):
            assert shown == str(default).lower(), key
        elif isinstance(default, int | float):
            assert float(shown.removesuffix(" (any)")) == float(default), key
        elif isinstance(default, str):
            assert shown == default, key


def test_every_key_that_is_refused_is_named_as_such() -> None:
    later = (ROOT / "README.md").read_text().split("Keys that later versions bring")[1].split("\n\n")[0]
    assert {key for key in NOT_BUILT if f"`{key}" not in later} == set()
