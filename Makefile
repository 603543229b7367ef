# `make help` lists the targets. CUDA=12 takes the lock for CUDA 12.8 (torch 2.9) and its own virtual environment.
CUDA ?= 13
VENV := .venv$(if $(filter 12,$(CUDA)),-cuda12)
PYTHON_IN_VENV := $(VENV)/bin/python
export CUDA

.DEFAULT_GOAL := help
.PHONY: help train test test-cuda12 soak benchmark benchmark-training benchmark-checkpoints benchmark-scaling benchmark-big benchmark-tables benchmark-library gpu-proof docs evidence image release audit lint lock venv venv-sdk3 clean

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | expand -t 20

train: venv ## train on all and on less of the digits, and say how much is enough
	$(PYTHON_IN_VENV) -m deploy demo

test: venv venv-sdk3 ## every test that this machine can run; REQUIRE_DOCKER=1 fails where one cannot
	tests/run.sh $(PYTHON_IN_VENV) unit functional soak aws image local_mode

test-cuda12: ## what another torch could change (tests/conftest.py, NUMERICS) under the lock for CUDA 12
	$(MAKE) CUDA=12 venv
	PYTEST_ADDOPTS="-m numerics" tests/run.sh .venv-cuda12/bin/python unit functional

soak: venv ## kill real runs for an hour, or SOAK_MINUTES, and compare; SOAK_SEED is the first run's
	SOAK_MINUTES=$${SOAK_MINUTES:-60} tests/run.sh $(PYTHON_IN_VENV) soak

benchmark: venv ## selection beside CORDS: time, memory, targets; OPTIONS="--curve" and others as --help lists them
	$(PYTHON_IN_VENV) benchmarks/selection.py $(OPTIONS)

benchmark-training: venv ## training beside the loop of AWS's article and a bare one; OPTIONS as --help lists them
	$(PYTHON_IN_VENV) benchmarks/training.py $(OPTIONS)

benchmark-checkpoints: venv ## what checkpoints cost an epoch; OPTIONS as --help lists them
	$(PYTHON_IN_VENV) benchmarks/checkpoints.py $(OPTIONS)

benchmark-scaling: venv ## an epoch and a selection in one process and in several; OPTIONS as --help lists them
	$(PYTHON_IN_VENV) benchmarks/scaling.py $(OPTIONS)

benchmark-big: venv ## data larger than a limit on memory beside the same from memory, as root; OPTIONS as --help lists them
	$(PYTHON_IN_VENV) benchmarks/big.py $(OPTIONS)

benchmark-tables: venv ## mlp beside gradient boosting on real tables; OPTIONS as --help lists them
	$(PYTHON_IN_VENV) benchmarks/tables.py $(OPTIONS)

benchmark-library: venv ## the library's loader beside plain loaders and other packages; OPTIONS="--peers PYTHON" and others
	$(PYTHON_IN_VENV) benchmarks/library.py $(OPTIONS)

gpu-proof: venv ## what only a GPU can tell, in nine minutes of one; OPTIONS="--data PATH", "--dry" and others as --help lists them
	$(PYTHON_IN_VENV) -m benchmarks.gpu_proof $(OPTIONS)

docs: venv ## write the pages that follow from the code, and the README's picture
	$(PYTHON_IN_VENV) docs/generate.py

evidence: venv ## the experiment of AWS's article with fair baselines: OPTIONS="--training DIR --test DIR [--preset small]"
	$(PYTHON_IN_VENV) benchmarks/evidence.py $(OPTIONS)

image: ## build the image; TAG, BASE_IMAGE and CUDA=12 change what docker/build.sh says
	docker/build.sh

release: venv ## build and check what could be uploaded of the library, from the last commit; uploads nothing
	container_src/subset_selection/release.sh $(VENV)/bin

audit: .venv-audit/.complete ## known vulnerabilities of the locks' packages, and waiting updates of the image's; needs a network
	docker/audit.sh .venv-audit/bin/pip-audit

.venv-audit/.complete: $(VENV)/.complete docker/requirements/build.txt docker/requirements/audit.txt docker/venv.sh
	PYTHON=$(abspath $(PYTHON_IN_VENV)) docker/venv.sh .venv-audit audit
	touch $@

lint: venv ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

lock: venv ## compile the locked requirements anew from their .in files
	UV=$(abspath $(VENV)/bin/uv) docker/requirements/compile.sh

venv: $(VENV)/.complete ## the virtual environment, from the locks

$(VENV)/.complete: docker/requirements/build.txt docker/requirements/dev-cuda$(CUDA).txt \
		docker/requirements/cords.txt $(wildcard docker/cords/*) docker/venv.sh $(wildcard container_src/pyproject.toml container_src/*/pyproject.toml)
	docker/venv.sh $(VENV) $(CUDA)
	touch $@

# The SDK 3 cannot be installed beside 2.x, and MLflow's server has no place in the image: the tests' second environment.
venv-sdk3: .venv-sdk3/.complete ## the environment with SageMaker's SDK 3 and MLflow's server, from its lock

.venv-sdk3/.complete: $(VENV)/.complete docker/requirements/build.txt docker/requirements/sdk3.txt docker/venv.sh
	PYTHON=$(abspath $(PYTHON_IN_VENV)) docker/venv.sh .venv-sdk3 sdk3
	touch $@

clean: ## remove the virtual environments and what builds and tests leave
	rm -rf .venv .venv-cuda12 .venv-sdk3 .venv-audit build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf $(foreach project,. container_src container_src/subset_selection,$(project)/build $(project)/dist $(project)/*.egg-info)
	find . -name __pycache__ -type d -prune -exec rm -r {} +
