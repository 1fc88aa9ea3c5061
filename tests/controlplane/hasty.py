"""`python -m lb` without pauses between its tries: for tests that count what ten thousand of them leave behind."""

from __future__ import annotations

from lb.discovery import backoff

backoff.FIRST_SECONDS = backoff.LONGEST_SECONDS = 0.001

if __name__ == "__main__":
    from lb.__main__ import main

    raise SystemExit(main())
