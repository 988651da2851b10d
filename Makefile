# make demo   sets everything up, then packs, signs, encrypts, verifies, releases, installs and runs the OCR example
# make test   sets everything up, then checks and tests everything
# make setup  builds .venv in this folder; does nothing when nothing changed
# make bench  prints the figures that speed claims are made from

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
MANIFESTS := pyproject.toml constraints.txt $(wildcard plugins/*/pyproject.toml)
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))

.PHONY: setup demo test lint bench schemas clean

setup: $(VENV)/.complete

$(VENV)/.complete: $(MANIFESTS) tools/check_python.py
	@$(PYTHON) tools/check_python.py
	@echo "setup: building $(CURDIR)/$(VENV) (a few minutes the first time, nothing to do later)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[default,testing,dev]' $(addprefix --editable ,$(PLUGINS))
	@touch $@
	@echo "setup: done; the command is $(BIN)/sdkpack"

demo: setup
	@$(BIN)/python tools/demo.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test: lint
	$(BIN)/python tools/environments.py
	$(BIN)/python -m pytest -n 2 --dist loadfile

bench: setup
	$(BIN)/python -m benchmarks

schemas: setup
	$(BIN)/python -m sdkpack.documents.schemas schemas

clean:
	rm -rf build $(VENV)
