# The two commands of the README are `demo` and `test`; both install what they need and may be run again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo clean-demo preflight test test-vm check lint venv lock

demo: preflight
	$(MAKE) --no-print-directory venv
	$(BIN)/python scripts/demo.py

# Only what the demo made: another site's state is in a folder of its own beside it.
clean-demo: $(STAMP)
	$(BIN)/ansible-playbook -i inventory/virtual playbooks/virtual_down.yml
	rm -rf var/virtual

# Before anything is changed: can this machine do it at all?
preflight:
	$(PYTHON) scripts/preflight.py

test: preflight
	$(MAKE) --no-print-directory lint
	$(BIN)/ansible-playbook playbooks/controller.yml --extra-vars controller_for_tests=true
	$(BIN)/pytest tests -m "not vm" --durations 20

# The sandbox on Debian's own riscv64 kernel, in a virtual machine.
test-vm: preflight
	$(MAKE) --no-print-directory venv
	$(BIN)/ansible-playbook playbooks/controller.yml
	$(BIN)/pytest tests/vm

check: lint
	$(BIN)/pytest -q tests/unit --no-header

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint --offline -q

# Resolved for all Pythons we support at once; hashes, so that a mirror can't slip in other bytes.
lock: $(STAMP)
	$(BIN)/uv pip compile -q --universal --generate-hashes --extra dev --python-version 3.11 \
	    --no-emit-index-url --no-header --upgrade pyproject.toml -o requirements.lock

venv: $(STAMP)

$(STAMP): requirements.lock scripts/bootstrap.sh
	sh scripts/bootstrap.sh $(PYTHON) $(VENV)
	touch $@
