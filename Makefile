# Two commands: `make leaderboard` runs the main job, `make test` keeps every promise. Each sets itself up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
export OMP_NUM_THREADS = 1

.PHONY: leaderboard test slow lint benchmark browser wheel clean

leaderboard: $(VENV)/ready
	$(BIN)/clbench study leaderboard --fresh --jobs $(JOBS)

test: $(VENV)/ready browser lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "not slow"

slow: $(VENV)/ready
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m slow

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(VENV)/ready browser
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/page_load.py
	$(BIN)/python benchmarks/leaderboard_scale.py

# The report's page is tested in headless Chromium; Debian's packages bring it where it is missing.
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo "installing chromium and chromium-driver" && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium chromium-driver >/dev/null; } || { \
	  echo "The tests of the page need chromium and chromedriver on the PATH. On Debian or Ubuntu, as root:" >&2; \
	  echo "  apt-get install chromium chromium-driver" >&2; exit 1; }

wheel: $(VENV)/ready
	$(BIN)/python -m build --wheel

# One pip command; the lock holds the pair of torch and torchvision that fits (see README, "Install").
$(VENV)/ready: pyproject.toml requirements.lock tests/oracle_requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e ".[dev,vision,text,data,tensorboard,mlflow,wandb]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/oracle -r tests/oracle_requirements.txt
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
