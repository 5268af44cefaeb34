# make demo    a control plane, a node and a story; a second one builds nothing. `make down` ends it
# make test    format, lints, docs, unit and property tests, and the live suite: what .ci/run runs
# make check   the same without the live suite; under two minutes when warm
# make bench   figures of the release build against KWOK, written to target/bench.md; docs/benchmarks.md speaks of them
# make fuzz    each fuzz target for SECONDS=60 (FUZZ="image-layer oci-spec" for some of them); fuzz/README.md
# make fuzz-keep   puts what `make fuzz` found new ways by into git: fuzz/corpus.tar.xz
# make setup   installs what is missing of Wasm targets and distribution packages; the others call it (the demo needs less)
# make deny    licences, sources and bans of all dependencies; `make test` does it too
# make clean   removes all that was built

TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
TOOLS  := $(CURDIR)/target/tools
# By name: not every sudo can keep all.
KEPT   := --preserve-env=PATH,HOME,TMPDIR,SAMARA_TOOLS,SAMARA_CGROUP2_TESTS,SAMARA_BIN,SAMARA_SHIM_BIN,SAMARA_NODE_LOG,RUST_BACKTRACE,RUST_LOG,HTTP_PROXY,HTTPS_PROXY,NO_PROXY
SUDO   := $(shell [ "$$(id -u)" = 0 ] || echo sudo $(KEPT))
PLANE  := $(addprefix $(TOOLS)/,kube-apiserver kube-controller-manager kube-scheduler kubectl etcd)

# Programs that cargo runs for us make namespaces and cgroups.
ifneq ($(SUDO),)
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER = $(SUDO)
endif
export SAMARA_TOOLS = $(TOOLS)
export RUSTDOCFLAGS = -D warnings

# Go beside cargo: this make's own jobs run together.
MAKEFLAGS += --no-print-directory
BESIDE = +@$(MAKE) -j4

.PHONY: demo down test check lint unit live bench fuzz fuzz-keep host samples guests tools tools-test tools-bench machine setup deny clean

demo: NEEDS = demo
demo: setup
	$(BESIDE) tools samples host
	@$(SUDO) $(TARGET)/debug/demo

down:
	@if [ -x $(TARGET)/debug/demo ]; then $(SUDO) $(TARGET)/debug/demo down; else echo "nothing is up"; fi

test: setup
	$(BESIDE) tools tools-test samples machine lint deny
	@cargo test --workspace --exclude samara-tests
	@$(MAKE) live

# The live suite, and before it the shim's own tests once more in a machine with pure cgroup v2.
live:
	@cargo build -p samara -p samara-shim --bins
	@SAMARA_CGROUP2_TESTS="$$(cargo test --no-run -p samara-shim -p samara-shim-client 2>&1 \
	| sed -nE 's/.*Executable (tests.(shim|zygote).main.rs|unittests src.lib.rs) \((.*(shim|zygote|samara_shim_client)-[0-9a-f]+)\)/\3/p' \
	| grep -v samara_shim- | sed "s,^target/,$(CURDIR)/target/," | paste -sd:)" cargo test -p samara-tests

check: setup samples lint unit

lint:
	@cargo fmt --check
	@cargo clippy --workspace --all-targets -- -D warnings
	@cargo doc --workspace --no-deps --quiet

unit: $(TOOLS)/registry $(TOOLS)/crane $(TOOLS)/moto/bin/moto_server $(TOOLS)/wkg/bin/wkg # the image store is tested against them
	@cargo test --workspace --exclude samara-tests
	@cargo test -p samara-tests --lib

bench: setup
	$(BESIDE) tools tools-test tools-bench samples guests host
	@cargo build --release -p samara --bins
	@$(SUDO) env SAMARA_BIN=$(TARGET)/release/samara $(TARGET)/debug/bench
	@for page in ctr-run pull speed; do \
	  echo "== tests/$$page.sh"; $(SUDO) env SAMARA_BIN=$(TARGET)/release/samara tests/$$page.sh || exit 1; done
	@cargo bench -p samara-runtime --bench http
	@cargo bench -p samara-shim --bench start

# Instrumented are our own crates alone; the lock file is the one that is shipped, and libfuzzer.
SECONDS = 60
FUZZ = $(sort $(basename $(notdir $(wildcard fuzz/seeds/*[a-z]))))
fuzz:
	@cp Cargo.lock fuzz/Cargo.lock
	@cd fuzz && CARGO_TARGET_DIR=$(TARGET) RUSTC_WRAPPER=$(CURDIR)/fuzz/instrument.sh cargo build --quiet --bins
	@fuzz/run.sh $(SECONDS) $(TARGET)/fuzz $(FUZZ:%=$(TARGET)/debug/fuzz-%)
fuzz-keep:
	@fuzz/keep.sh $(TARGET)/fuzz $(FUZZ:%=$(TARGET)/debug/fuzz-%)

# The one build which demo and tests share.
host:
	@cargo build -p samara -p samara-tests --bins

# What `make bench` alone measures.
guests:
	@cd tests/guests && export CARGO_TARGET_DIR=$(CURDIR)/target/guests \
	&& cargo build --quiet --release --target wasm32-wasip1 && cargo build --quiet --release --bin speed

samples:
	@cd samples && export CARGO_TARGET_DIR=$$PWD/target \
	&& cargo build --quiet --release --target wasm32-wasip1 --workspace \
	   --exclude http-hello-v1 --exclude http-hello-v2 --exclude tcp-echo --exclude api-client \
	&& cargo build --quiet --release --target wasm32-wasip2 --workspace
	@cd samples/go-hello && GOOS=wasip1 GOARCH=wasm go build -trimpath -ldflags='-s -w' \
	   -o ../target/wasm32-wasip1/release/go-hello.wasm .

# A kernel and qemu for the tests on pure cgroup v2; not needed where the host has it.
machine:
	@grep -qs memory /sys/fs/cgroup/cgroup.controllers || tests/machine/fetch.sh $(CURDIR)/target/machine

tools: $(PLANE) $(TOOLS)/registry $(TOOLS)/crane
tools-test: $(TOOLS)/moto/bin/moto_server $(TOOLS)/wkg/bin/wkg $(TOOLS)/containerd
tools-bench: $(TOOLS)/kwok

$(PLANE) &: tests/tools/kubernetes/go.mod tests/tools/kubernetes/go.sum
	@tests/tools/build.sh kubernetes $(TOOLS)
$(TOOLS)/registry: tests/tools/registry/go.mod tests/tools/registry/go.sum
	@tests/tools/build.sh registry $(TOOLS)
$(TOOLS)/crane $(TOOLS)/oras $(TOOLS)/ecr-credential-provider $(TOOLS)/docker-credential-ecr-login $(TOOLS)/docker-credential-pass &: tests/tools/oci/go.mod tests/tools/oci/go.sum
	@tests/tools/build.sh oci $(TOOLS)
$(TOOLS)/moto/bin/moto_server: tests/tools/moto/requirements.txt tests/tools/moto/build.sh
	@tests/tools/moto/build.sh $(TOOLS)
$(TOOLS)/wkg/bin/wkg: tests/tools/crate.sh
	@tests/tools/crate.sh wkg 0.16.1 $(TOOLS)
$(TOOLS)/cargo-deny/bin/cargo-deny: tests/tools/crate.sh
	@tests/tools/crate.sh cargo-deny 0.20.2 $(TOOLS)
$(TOOLS)/containerd $(TOOLS)/ctr &: tests/tools/containerd/go.mod tests/tools/containerd/go.sum
	@tests/tools/build.sh containerd $(TOOLS)
$(TOOLS)/kwok: tests/tools/kwok/go.mod tests/tools/kwok/go.sum
	@tests/tools/build.sh kwok $(TOOLS)

setup:
	@tests/setup.sh $(TARGET) $(TOOLS) $(NEEDS)

deny: $(TOOLS)/cargo-deny/bin/cargo-deny
	@$(TOOLS)/cargo-deny/bin/cargo-deny check bans licenses sources

clean:
	@cargo clean --quiet
	@rm -rf $(TOOLS) samples/target
