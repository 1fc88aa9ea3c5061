"""Micro-benchmarks without sockets: the parts of the hot path, against their budgets, and the whole of it."""
