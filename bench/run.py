"""Measure podlb beside HAProxy, nginx and others on this machine: `python bench/run.py --help`.

Only the start is here, in words that older interpreters read too; what is done is in bench/cli.py.
"""

import importlib.util
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ENVIRONMENT = os.path.join(ROOT, ".venv")
NEEDED = ("h11", "msgspec", "uvloop")


def use_environment() -> None:
    """Go on inside .venv when podlb's libraries are missing here; say how to make it when it is not there."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if sys.version_info < (3, 11):  # noqa: UP036 - this file alone is read by whatever `python` is
        missing.insert(0, "Python 3.11 or later")
    if not missing:
        return
    python = os.path.join(ENVIRONMENT, "bin", "python")
    if os.path.exists(python) and os.path.realpath(sys.prefix) != os.path.realpath(ENVIRONMENT):
        os.execv(python, [python, *sys.argv])
    lacks = ", ".join(missing)
    sys.exit(f"bench: this Python lacks what podlb needs ({lacks}); `make test` makes an environment that has it")


if __name__ == "__main__":
    use_environment()
    # A script's first place to look for modules is its own directory; `import bench` needs the one above.
    sys.path[0] = ROOT
    from bench.cli import main

    sys.exit(main())
