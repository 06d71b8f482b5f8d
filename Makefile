# One door for people and for CI: each target sets up what it needs, from a clean clone, with Python 3.11 or newer.
#
# One environment, .venv, in two sizes. `demo` needs the serving size (no torch), `test` and `check` the development size.
# Both are installed from lock files that agree on every version they share, so the larger can grow out of the smaller
# and then serves both. The stamps say which size is there and which lock it came from.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
SERVE := $(VENV)/.serve-stamp
DEV := $(VENV)/.dev-stamp
PROTO := protos/maskstream/v1/maskstream.proto
OUT ?= out
VARIANT ?= cpu
BUILDER ?= docker
BASE ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format smoke bench protos check-protos locks image image-base docs clean

help: ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "maskstream needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(SERVE): requirements/serve-cpu.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --requirement requirements/serve-cpu.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

$(DEV): requirements/dev.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --requirement requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $(SERVE) $@

setup: $(DEV) ## the development environment: torch, exporters, test tools

demo: $(SERVE) ## the bundled clip through a server: overlay video, J&F, frames/s, latency per stage
	$(BIN)/maskstream demo --out $(OUT)/demo --json $(OUT)/demo/demo.json

test: $(DEV) ## all tests; those that need a GPU are skipped, and listed, where there is none
	$(BIN)/pytest $(PYTEST_ARGS)

check: $(DEV) check-protos ## format, lint, types, import directions, generated code, locks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	MYPYPATH=docs $(BIN)/mypy docs/hooks.py docs/generate
	$(BIN)/lint-imports
	$(BIN)/pytest --quiet tests/test_locks.py tests/test_layout.py

format: $(DEV) ## let ruff repair what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DEV) ## the documentation site, strictly, into out/site; nothing is fetched
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

smoke: $(DEV) ## a few training steps -> export -> serve -> client, on a rendered clip
	$(BIN)/pytest tests/end_to_end/test_smoke.py

bench: $(DEV) ## speed by engine, size, objects and streams on this machine
	$(BIN)/maskstream bench --json $(OUT)/bench.json $(BENCH_ARGS)

protos: $(DEV) ## generate maskstream/v1 from protos/
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=. --pyi_out=. --grpc_python_out=. $(PROTO)

check-protos: $(DEV)
	@rm -rf $(VENV)/protos && mkdir $(VENV)/protos
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=$(VENV)/protos --pyi_out=$(VENV)/protos \
	  --grpc_python_out=$(VENV)/protos $(PROTO)
	@for file in $(VENV)/protos/maskstream/v1/*; do \
	  diff -u maskstream/v1/$${file##*/} $$file || { echo "maskstream/v1 is not what $(PROTO) generates: make protos"; exit 1; }; \
	done

# Exact versions for each profile, without the address of any index. Development first: the others take its versions.
# `+cpu` and the like name one build of a version and are cut off; the index that is asked decides about the build.
LOCK := $(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --no-header --no-annotate --no-emit-index-url \
  --no-emit-find-links --no-emit-trusted-host --no-emit-options
locks: | $(BIN)/python ## compute requirements/*.lock anew from pyproject.toml (UPGRADE=--upgrade takes newer versions)
	$(BIN)/python -m pip install --quiet pip-tools
	$(LOCK) $(UPGRADE) --extra train --extra export --extra serve --extra cpu --extra web --extra ray --extra plot --extra docs --extra dev \
	  -o requirements/dev.lock pyproject.toml
	$(LOCK) --extra train --extra export --extra cpu -c requirements/dev.lock -o requirements/train.lock pyproject.toml
	$(LOCK) --extra serve --extra cpu --extra web -c requirements/dev.lock -o requirements/serve-cpu.lock pyproject.toml
	$(LOCK) --extra serve --extra gpu --extra web -c requirements/dev.lock -o requirements/serve-gpu.lock pyproject.toml
	sed -i -E 's/^([a-z0-9.-]+==[^+ ]+)\+[^ ]+/\1/; /^#/d; /^$$/d; 1i # made by: make locks' requirements/*.lock

image: ## the serving image, without torch; VARIANT=gpu for CUDA, BUILDER=buildah, BASE=an image of your own with Python
	$(BUILDER) build $(IMAGE_ARGS) --build-arg VARIANT=$(VARIANT) $(if $(BASE),--build-arg PYTHON_IMAGE=$(BASE)) \
	  --tag maskstream:$(VARIANT) .

image-base: ## a base for it made of Debian's packages, where no registry can be reached: make image BASE=maskstream-base:bookworm
	BUILDER=$(BUILDER) deploy/image/base.sh

clean: ## remove what the targets made, and the environment
	rm -rf $(VENV) $(OUT) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
