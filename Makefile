# Every target sets up what it needs: a virtual environment in .venv, made once and again when settings.ini changes.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
STATIC := $(addprefix tests/test_,site.py lab.py quarto.py package.py typing.py docstrings.py pages.py)
NOTEBOOKS := $(shell find nbs -name '*.ipynb' -not -path '*/.*')

.PHONY: site test mutate lab docs bench export run readme clean help
site: docs ## (default) set up, build the documentation site and say which file to open

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

$(READY): settings.ini setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "optim_nb needs Python 3.11 or newer; try: make PYTHON=python3.12"; exit 1; }
	@echo "Setting up .venv: this takes a minute or two, once"
	@$(PYTHON) -m venv .venv || { echo "Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --disable-pip-version-check -e ".[dev]"
	@touch $@

docs: $(READY) ## build the site into _docs (with ENGINE=quarto by Quarto, where that is installed)
	@$(BIN)/python docs/build.py $(ENGINE)

test: $(READY) ## run every test: ruff, the notebooks, package = notebooks, pytest, types, the site in a browser
	@echo "1/4  mistakes that can be read off the code (ruff)"
	@$(BIN)/ruff check -q optim_nb tests docs setup.py
	@echo "2/4  the notebooks, each run as a test that calls what it exports"
	@$(BIN)/python tests/notebooks.py
	@echo "3/4  the package without compiled code (NUMBA_DISABLE_JIT=1)"
	@NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest $(STATIC:%=--ignore %)
	@echo "4/4  the package, its agreement with the notebooks, what editors see of it, and the site in a browser"
	@$(BIN)/python -m pytest

mutate: $(READY) ## break each function of a notebook in turn and see its page fail: make mutate NB=nbs/00_tensor.ipynb
	@$(BIN)/python tests/mutate.py $(NB)

lab: $(READY) ## open home in JupyterLab, and from it every other page
	@JUPYTER_CONFIG_PATH=$(CURDIR)/docs/jupyter $(BIN)/jupyter lab nbs/index.ipynb $(if $(filter 0,$(shell id -u)),--allow-root)

bench: $(READY) ## measure the speed, as ratios (against PyTorch too, where .venv has it)
	@$(BIN)/python tests/bench.py

export: $(READY) ## after editing notebooks: export them to optim_nb, clean them, write README.md
	@$(BIN)/nbdev_export && $(BIN)/python docs/docstrings.py && $(BIN)/nbdev_clean && $(BIN)/python docs/readme.py

run: $(READY) ## run every notebook in place, so that its outputs are current
	@for n in $(NOTEBOOKS); do echo $$n; $(BIN)/jupyter nbconvert --to notebook --execute --inplace --log-level WARN $$n || exit 1; done
	@$(BIN)/nbdev_clean

clean: ## remove what was built, and .venv
	@rm -rf .venv _docs _proc build *.egg-info nbs/nbdev.yml
