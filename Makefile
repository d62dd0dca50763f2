# The two commands of the README are `demo` and `test`; both install what they need and may be run again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo clean-demo test check unit integration boards venv lock

demo: $(STAMP)
	$(PYTHON) scripts/preflight.py
	$(BIN)/python scripts/demo.py

clean-demo: $(STAMP)
	$(BIN)/ansible-playbook playbooks/virtual_down.yml
	rm -rf var

test: check integration-packages
	$(BIN)/pytest tests

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint --offline -q
	$(BIN)/pytest -q tests/unit

.PHONY: integration-packages
integration-packages: $(STAMP)
	$(PYTHON) scripts/preflight.py
	$(BIN)/ansible-playbook playbooks/controller.yml --extra-vars controller_for_tests=true

# Resolved for all Pythons we support at once; hashes, so that a mirror can't slip in other bytes.
lock: $(STAMP)
	$(BIN)/uv pip compile -q --universal --generate-hashes --extra dev --python-version 3.11 \
	    --no-emit-index-url --no-header --upgrade pyproject.toml -o requirements.lock

venv: $(STAMP)

$(STAMP): requirements.lock scripts/bootstrap.sh
	sh scripts/bootstrap.sh $(PYTHON) $(VENV)
	touch $@
