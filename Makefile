# One word for each task: `make` lists them. PYTHON is the environment's.
.DEFAULT_GOAL := help
PYTHON ?= .venv/bin/python
BIN := $(dir $(PYTHON))

.PHONY: help setup build fast test lint format c docs coverage workflows wheel bench ci clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

setup:  ## an environment in .venv with everything that changes to the package need
	python3 -m venv .venv && .venv/bin/pip install -q 'pip>=25.1'
	LSTMKERNEL_REQUIRE_C=1 .venv/bin/pip install -q -c tests/constraints.txt -e '.[test]' --group lint --group coverage

build:  ## compile the C kernels again, after a change in csrc/
	$(PYTHON) setup.py -q build_ext --inplace

fast:  ## the fast part of the tests
	$(PYTHON) -m pytest -q -m "not slow" -n auto

test:  ## all tests
	$(PYTHON) -m pytest -q -n auto

lint:  ## linters, types, the direction of imports, the style of C and of shell scripts
	$(BIN)ruff check .
	$(BIN)ruff format --check .
	$(BIN)mypy
	$(BIN)lint-imports
	git ls-files 'csrc/*.[ch]' 'tests/c/*.[ch]' | xargs $(BIN)clang-format --dry-run --Werror
	git ls-files '*.sh' .ci/run | xargs $(BIN)shellcheck

format:  ## let the formatters write
	$(BIN)ruff check -q --fix .
	$(BIN)ruff format -q .
	git ls-files 'csrc/*.[ch]' 'tests/c/*.[ch]' | xargs $(BIN)clang-format -i

c:  ## the C checks: headers, vector operations, equal bits, sanitizers
	tests/c/parse_headers.sh
	tests/c/vector_operations.sh
	tests/c/compare_bits.sh
	tests/c/sanitize.sh

docs:  ## the documentation's site, into site/, in an environment of its own
	test -x .docs-venv/bin/pip || python3 -m venv .docs-venv
	.docs-venv/bin/pip install -q 'pip>=25.1' && .docs-venv/bin/pip install -q --group docs
	NO_MKDOCS_2_WARNING=1 .docs-venv/bin/mkdocs build -q --strict

coverage:  ## the lines of Python that the fast tests reach (without tests of memory, which it disturbs); those of C
	$(PYTHON) -m pytest -q -m "not slow" -k "not memory" -n auto --cov --cov-report term
	GCOVR=$(BIN)gcovr tests/c/coverage.sh

workflows:  ## check .github/, in the same way
	test -x .docs-venv/bin/pip || python3 -m venv .docs-venv
	.docs-venv/bin/pip install -q 'pip>=25.1' && .docs-venv/bin/pip install -q --group workflows
	.docs-venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	.docs-venv/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	.docs-venv/bin/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	.docs-venv/bin/zizmor --offline --no-progress .github

wheel:  ## a wheel for this system, into wheels/, and the tests of installing it
	tests/install/wheel.sh

bench:  ## every kernel and network, timed
	$(PYTHON) -m pytest bench --benchmark-only

ci:  ## what must pass before a change lands
	.ci/run

clean:  ## remove what was built
	rm -rf build site wheels .docs-venv lstmkernel/backends/c/_kernels* *.egg-info
