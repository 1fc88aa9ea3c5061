# Each target sets up what it lacks; the only thing they need beforehand is Python 3.11 or later.
# Written for GNU make 3.81 (macOS) and later.

BIN := .venv/bin
READY := .venv/.ready

# Looked for in this order; override with: make PYTHON=/path/to/python3
PYTHON ?= python3 python3.11 python3.12 python3.13 python3.14 python

.PHONY: help demo test test-all soak drills drills-compare bench format lock manifests clean
.DELETE_ON_ERROR:

help:
	@echo "make demo      three backends and the load balancer on this machine (DEMO_ARGS='--help')"
	@echo "make test      format, lint, types, layers, unit and integration tests; 3 to 6 minutes"
	@echo "make test-all  all tests, the slow ones too, on every event loop and with every parser"
	@echo "make soak      a million connections, ten minutes of made-up messages, 100,000 events of a Service; about 20 minutes"
	@echo "make drills    pods are killed, rolled and scaled under load, on the cluster of KUBECONFIG or one of PODLB_CLUSTER"
	@echo "make drills-compare  the same, and by the plain Service beside it"
	@echo "make bench     CPU per request beside HAProxy, nginx and others (BENCH_ARGS='--quick')"
	@echo "make format    format the code and mend what the linter can mend"
	@echo "make lock      deploy/*.lock anew: what the images install, by hash (needs the network)"
	@echo "make manifests deploy/install.yaml anew, from deploy/base (needs kubectl)"
	@echo "make clean     remove the virtual environment, caches and build products"

demo: $(READY)
	@$(BIN)/python -m lb demo $(DEMO_ARGS)

test: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -m "not slow and not soak"

test-all: $(READY)
	$(BIN)/pytest -q --all-loops -m "not soak" $(TEST_ALL_ARGS)

# -s: it says after each tenth what is held by then.
soak: $(READY)
	$(BIN)/pytest -q -s -m soak

# With a cluster script and no KUBECONFIG, a cluster is started for them and stopped afterwards.
DRILLS := $(BIN)/python -m tests.drills $(if $(KUBECONFIG),,$(if $(PODLB_CLUSTER),--up))

drills: $(READY)
	@$(DRILLS) $(DRILLS_ARGS)

drills-compare: $(READY)
	@$(DRILLS) --compare $(DRILLS_ARGS)

bench: $(READY)
	@$(BIN)/python bench/run.py $(BENCH_ARGS)

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# With the versions of constraints.txt; the hashes are those of all the files that the registry has of them, for images
# of any architecture. Not one of the development tools: it is needed here alone.
LOCK = UV_CUSTOM_COMPILE_COMMAND="make lock" .venv/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
    --generate-hashes --no-annotate --constraint constraints.txt
lock: $(READY)
	@test -x .venv/lock/bin/uv || { $(BIN)/python -m venv .venv/lock && .venv/lock/bin/pip install --quiet uv; }
	$(LOCK) setup.cfg --output-file deploy/lb.lock
	printf 'h11\nmsgspec\n' | $(LOCK) - --output-file deploy/backend.lock

manifests:
	kubectl kustomize deploy/base > deploy/install.yaml

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	find lb backend bench tests -name __pycache__ -type d -prune -exec rm -rf {} +

# An existing environment is kept and brought up to date when the metadata changes.
$(READY): setup.cfg pyproject.toml constraints.txt
	@set -e; \
	if [ ! -x $(BIN)/python ]; then \
	    found=; unusable=; \
	    for python in $(PYTHON); do \
	        "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	        if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then found="$$python"; break; fi; \
	        unusable="$$python"; \
	    done; \
	    if [ -z "$$found" ] && [ -n "$$unusable" ]; then \
	        echo "podlb: $$unusable has no venv module; install it (Debian, Ubuntu: apt install python3-venv)" >&2; \
	        exit 1; \
	    elif [ -z "$$found" ]; then \
	        echo "podlb: Python 3.11 or later not found (looked for: $(PYTHON));" \
	            "install it, or name it: make PYTHON=/path/to/python3" >&2; \
	        exit 1; \
	    fi; \
	    echo "making .venv with $$("$$found" --version)"; \
	    rm -rf .venv; \
	    "$$found" -m venv .venv; \
	fi; \
	echo "installing podlb and its tools into .venv"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'; \
	touch $@
