# Everything that is done with this clone, by name. Set-up happens by itself: `make demo` and
# `make test` need nothing beforehand but make, Python 3.10 or newer, and apt where no Docker
# engine answers yet.
#
#   PYTHON=…   the interpreter for .venv (default: /usr/bin/python3 where it will do)
#   ARGS=…     passed on to pytest, the demo or the benchmarks: make test ARGS='-k clock -x'

SHELL := bash
.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-print-directory
export PYTHON

PY := .venv/bin/python
SOURCES := hatch_build.py core provisioner server_extension cli tests benchmarks examples docs tools/ensure-engine
SHELL_SCRIPTS := tools/quick tools/ensure-env tools/build-panel tools/lock tools/run-tests .ci/run

.PHONY: help demo lab test quick foreign check format panel bench docs lock clean env engine panel-if-node

help: ## list these targets
	@printf 'mooring: containers declared once, opened as notebook kernels and as shells\n\n'
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r target what; do printf '%-14s %s\n' "$$target" "$$what"; done
	@printf '\nThe first run makes .venv; demo, lab, test, quick and bench also start a Docker engine if none answers.\n'

demo: engine ## run the main job: a notebook in a container, and a command beside it
	@$(PY) examples/demo/demo.py $(ARGS)

lab: engine panel ## open JupyterLab with a session in its panel
	@$(PY) examples/demo/lab.py $(ARGS)

test: engine panel-if-node ## run the whole suite on a real engine
	@tools/run-tests $(ARGS)

quick: engine ## lint, unit tests, and one session with a kernel: in two minutes
	@tools/quick $(ARGS)

foreign: engine ## run the suites of papermill, nbval, nbmake, nbclient and ipykernel on our kernels
	@$(PY) -m tests.foreign $(ARGS)

check: env ## lint, formatting, types: all that needs no engine
	@$(PY) -m ruff check $(wildcard $(SOURCES))
	@$(PY) -m ruff format --check $(wildcard $(SOURCES))
	@$(PY) -m mypy
	@.venv/bin/lint-imports --no-cache >build/imports.log || { cat build/imports.log; exit 1; }
	@.venv/bin/shellcheck $(SHELL_SCRIPTS)
	@.venv/bin/shellcheck --shell=dash $(wildcard core/mooring/guest/*.sh)

format: env ## let ruff rewrite what it can
	@$(PY) -m ruff check --fix $(wildcard $(SOURCES))
	@$(PY) -m ruff format $(wildcard $(SOURCES))

panel: env ## build the JupyterLab panel; needs Node 18 or newer
	@tools/build-panel

bench: engine ## measure mooring against a local kernel and the docker command
	@$(PY) benchmarks/bench.py $(ARGS)

docs: env ## write the generated pages of docs/ anew
	@$(PY) docs/generate.py $(ARGS)

lock: ## choose the newest versions and write constraints.txt
	@tools/lock

clean: ## remove what was built, .venv included
	rm -rf server_extension/mooring_server_extension/labextension
	cd server_extension/panel && rm -rf lib node_modules tsconfig.tsbuildinfo .yarn
	rm -rf build dist .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(wildcard core provisioner server_extension cli tests) -name __pycache__ -prune -exec rm -rf {} +

env:
	@tools/ensure-env

panel-if-node: env
	@tools/build-panel --optional

engine: env
	@$(PY) tools/ensure-engine
