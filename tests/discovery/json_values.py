"""JSON of every kind, for tests that feed it to what expects another kind."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**63, max_value=10**400),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
)

JSON: st.SearchStrategy[Any] = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def deeply_nested(template: bytes, depth: int = 100_000) -> bytes:
    """Put arrays within arrays, so many that no decoder that calls itself can follow, where `template` has %b."""
    return template % (b"[" * depth + b"]" * depth)
