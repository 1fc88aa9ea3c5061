"""The demo server: says who it is, carries artificial load and misbehaves on request.

    argv, config.json ──▶ config ──▶ process ──▶ server ──▶ app ──▶ { parameters, faults }
                                        │            └──▶ cpu
                                        └──▶ logs

- `app`         CORE: a request → a description of its reply. `parameters` reads the query (`?size=20k&delay=50ms`),
                `faults` holds what `POST /fault` ordered. Time and randomness come in as arguments.
- `server`      SHELL: one HTTP/1.1 connection: h11 over `asyncio.Protocol`. The only importer of h11 here.
- `cpu`         SHELL: burns processor time in slices, so that probes are answered meanwhile.
- `process`     SHELL: the life of the process: listen, accept, signals, drain, exit.
- `config`      `config.json` and flags → `Config`; who this pod is → `Identity`.
- `logs`        the log format.
- `__main__`    the command line: `python -m backend`, or `podlb-backend`.

Paths: `/livez` and `/readyz` are for probes, `/fault` orders a fault, `/echo` answers what was received; every other
path answers who served it. `parameters` lists what a query can ask for; `faults` lists the faults.
"""
