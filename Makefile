# Two commands on a fresh machine: `make plan` and `make test`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: plan test check bench parsers clean
plan: $(STAMP)
	$(BIN)/muxplan plan examples/chat_fleet.yaml -o plan.yaml

test: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m pytest tests/benchmarks -s

# What reads the exports in tests; tests without it are skipped.
parsers:
	test -x .venv-parsers/bin/python || $(PYTHON) -m venv .venv-parsers
	.venv-parsers/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/integration/export_parsers.txt

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "muxplan needs Python 3.11 or newer; say PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "no venv module: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

clean:
	rm -rf $(VENV) .venv-parsers
