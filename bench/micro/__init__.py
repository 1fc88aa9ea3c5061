"""Micro-benchmarks without sockets: the parts of the hot path, and the whole of it, against its budget."""
