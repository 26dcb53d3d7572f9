# The only door to coil. Works as root on a fresh Debian 12 machine with nothing but make.

PREFIX      ?= /opt/coil
DESTDIR     ?=
CNI_BIN_DIR ?= /opt/cni/bin
CNI_ETC_DIR ?= /etc/cni/net.d
UNIT_DIR    ?= /etc/systemd/system
T           ?= tests
PYTHON      := /usr/bin/python3
VENV        := .venv
BIN         := $(VENV)/bin
APT         := packaging/apt-install.sh

APT_BUILD := python3 python3-venv
APT_RUN   := iproute2 iputils-ping busybox-static containerd runc containernetworking-plugins \
             procps util-linux
APT_TEST  := $(APT_RUN) podman nftables iptables gcc libc6-dev curl bird2 strace
APT_BENCH := $(APT_RUN) gcc libc6-dev iperf3

.PHONY: help build native demo demo-node test check bench clean install uninstall

help:
	@echo "make build      .venv/bin/{coild,coilctl} and build/coil"
	@echo "make demo       containers on this machine get addresses from blocks, and talk"
	@echo "make test       everything: make check, then the tests (T=tests/unit for a part)"
	@echo "make check      format, lint, types, layers"
	@echo "make bench      coil beside ptp + host-local, in the same run"
	@echo "make install    programs, plugin, configuration, unit (PREFIX, DESTDIR)"
	@echo "make uninstall  remove what install put there"
	@echo "make clean      remove what build made"

build: .stamps/dev
	@$(PLUGIN) all

.stamps/apt-%:
	@mkdir -p .stamps
	@$(APT) $(APT_$*)
	@touch $@

.stamps/venv: requirements.txt requirements-dev.txt | .stamps/apt-BUILD
	@echo "making $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check -r requirements-dev.txt
	@touch $@

.stamps/dev: .stamps/venv pyproject.toml
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

PLUGIN := $(MAKE) --no-print-directory -s -C plugin ZIG="$(CURDIR)/$(BIN)/python -m ziglang"

native: .stamps/dev
	@$(PLUGIN) native

demo: demo-node

demo-node: native .stamps/apt-RUN
	@$(BIN)/python -m coil.lab.demo

check: .stamps/dev
	@$(BIN)/ruff format --check -q $(wildcard src tests bench)
	@$(BIN)/ruff check -q $(wildcard src tests bench)
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

test: build check .stamps/apt-TEST
	@$(BIN)/python -m pytest $(T)

bench: native .stamps/apt-BENCH
	@$(BIN)/python bench/run.py

install: build
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' CNI_BIN_DIR='$(CNI_BIN_DIR)' \
	    CNI_ETC_DIR='$(CNI_ETC_DIR)' UNIT_DIR='$(UNIT_DIR)' packaging/install.sh install

uninstall:
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' packaging/install.sh uninstall

clean:
	rm -rf build .stamps $(VENV) src/coil.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
