# make demo   set up and run all three tasks on generated scenes
# make test   set up and run the tests
# make check  everything a change must pass
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGE := $(VENV)/package.stamp
DEV := $(VENV)/dev.stamp

.PHONY: demo test check format docs clean

demo: $(PACKAGE)
	$(BIN)/mobilevision demo --output demo_output

test: $(DEV)
	$(BIN)/pytest -n auto --dist worksteal

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test
	$(MAKE) docs

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DEV)
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

# A stamp is written last, so an install that was interrupted is done again.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(PACKAGE): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev,docs]'
	touch $@ $(PACKAGE)

clean:
	rm -rf $(VENV) build dist docs/_build demo_output
