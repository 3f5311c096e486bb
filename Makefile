# `make demo` and `make test` do all the set-up themselves. Needed: Python 3.11 or newer, make.

# The first of these that runs and is new enough; choose another with `make PYTHON=/path/to/python test`.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in python3.12 python3.11 python3.13 python3; do \
  "$$name" -c '$(NEW_ENOUGH)' 2>/dev/null && { echo "$$name"; break; }; done)
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
OUT    ?= out/demo
SECONDS ?= 60
SEED   ?= 1

.PHONY: demo test check fuzz soak bench demo-model screens frozen setup clean help

help:
	@echo "make demo        sort simulated cells for 20 s; pictures and recording in $(OUT)"
	@echo "make test        run the tests"
	@echo "make fuzz        a million bad messages at every socket of a live run"
	@echo "make check       lint, types, import contracts"
	@echo "make soak        the twin under random faults for SECONDS=60, nothing may be lost unsaid"
	@echo "make bench       measure throughput and latency"
	@echo "make screens     draw the operator's screens anew, into docs/screens"
	@echo "make frozen      a screen that stands still for a minute beside a run (three minutes)"
	@echo "make demo-model  train the demonstration model again (about an hour)"
	@echo "make clean       remove everything that was made here, the environment too"

demo: $(READY)
	$(BIN)/hspc-live demo --out $(OUT)$(if $(wildcard $(OUT)),-$(shell date +%Y%m%d-%H%M%S))

test: $(READY)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

fuzz: $(READY)
	HSPC_FUZZ=1000000 $(BIN)/python -m pytest -q -s tests/pipeline/test_fuzz.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: $(READY)
	$(BIN)/python tools/soak.py --seconds $(SECONDS) --seed $(SEED)

bench: $(READY)
	$(BIN)/hspc-live bench pipeline --engine null

demo-model: $(READY)
	$(BIN)/hspc-live train configs/train/lsm.yaml --out runs/twin-lsm

screens: $(READY)
	$(BIN)/python tools/screens.py --out docs/screens

# The figures of the live run are those of a machine that does nothing else.
frozen: $(READY)
	HSPC_FROZEN_S=60 $(BIN)/python -m pytest -q -s tests/pipeline/test_showing.py -k frozen

setup: $(READY)

# Installed again only when the dependencies may have changed.
$(READY): pyproject.toml
	@"$(PYTHON)" -c '$(NEW_ENOUGH)' || \
	  { echo "Python 3.11 or newer is needed; name one with PYTHON=/path/to/python" >&2; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all]'
	@touch $@

clean:
	rm -rf $(VENV) build dist out runs *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
