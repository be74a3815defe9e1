# The one door to building, testing and checking lindbridge. `make help` lists the targets.
#
# Everything that is built goes to build/. One heavy build at a time: the Rust shim takes minutes, on all cores.
.NOTPARALLEL:
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

BUILD := build
TOOLS := $(BUILD)/tools
GO    ?= go
CARGO ?= cargo

# Tools, pinned. They are no part of go.mod or Cargo.toml.
GOLANGCI_VERSION := v2.15.0
CBINDGEN_VERSION := 0.29.4

# One profile and one directory for building, testing and linting, so that Wasmtime is built once.
export CARGO_TARGET_DIR := $(CURDIR)/$(BUILD)/cargo
CARGO_ARGS := --release --locked --manifest-path rust-shim/Cargo.toml
HEADER     := rust-shim/include/lindshim.h

GOLANGCI := $(TOOLS)/golangci-lint-$(GOLANGCI_VERSION)
CBINDGEN := $(TOOLS)/cbindgen-$(CBINDGEN_VERSION)

# The packages that have or cross the locks which a build with the tag invariants checks.
CHECKED := . ./bridge ./cage ./exitcoord ./internal/lockcheck ./threei
# How long all tests of one package may take.
GO_TEST_TIMEOUT ?= 15m
# More arguments for go test: make test GO_TEST_ARGS='-run Kill -v'
GO_TEST_ARGS ?=

.PHONY: help build shim shim-faults grates run test test-c test-grates test-go test-go-nocgo test-rust test-faults \
	race bench lint lint-go lint-rust lint-sh fmt guests guests-go guests-check header header-check matrix suite model \
	deps check clean test-invariants fuzz model-large faults soak bench-quick bench-go test-bench loom asan

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

build: shim ## Build build/lindbridge and the shim beside it
	$(GO) build -o $(BUILD)/lindbridge ./cmd/lindbridge

shim: ## Build the Rust shim: build/liblindshim.so and .a (a few minutes the first time)
	$(CARGO) build $(CARGO_ARGS)
	install -C -m 755 $(CARGO_TARGET_DIR)/release/liblindshim.so $(BUILD)/liblindshim.so
	install -C -m 644 $(CARGO_TARGET_DIR)/release/liblindshim.a $(BUILD)/liblindshim.a

shim-faults: ## Build the shim with failure points, for tests: build/faults/liblindshim.so
	$(CARGO) build $(CARGO_ARGS) --package lindshim-faults
	install -D -C -m 755 $(CARGO_TARGET_DIR)/release/liblindshim_faults.so $(BUILD)/faults/liblindshim.so

grates: deps ## Build the example grates: build/grates
	scripts/guests.sh --grates $(BUILD)/grates

run: build ## Build, then show a program with busy, waiting and reading threads being ended in four ways
	scripts/demo.sh $(BUILD)/lindbridge

test: build guests-go header-check guests-check test-c test-grates test-go test-go-nocgo test-rust test-faults test-bench ## Run everything that must pass

test-go: shim guests-go ## Go tests, with cgo
	CGO_ENABLED=1 $(GO) test -timeout $(GO_TEST_TIMEOUT) $(GO_TEST_ARGS) ./...

test-go-nocgo: shim guests-go ## Go tests, without cgo
	CGO_ENABLED=0 $(GO) test -timeout $(GO_TEST_TIMEOUT) $(GO_TEST_ARGS) ./...

# Its guest threads are all the shim's own, where the other runs of these tests have them on goroutines.
test-invariants: shim guests-go ## Go tests of the packages with locks in a build that checks their order and ownership
	CGO_ENABLED=1 LINDBRIDGE_TEST_GO_THREADS=-1 \
		$(GO) test -tags invariants -timeout $(GO_TEST_TIMEOUT) $(GO_TEST_ARGS) $(CHECKED)

test-rust: ## Rust tests of the shim
	$(CARGO) test $(CARGO_ARGS)

test-faults: ## Rust tests of the shim with failure points: every point, in every order of ending
	$(CARGO) test $(CARGO_ARGS) --package lindshim-faults

loom: ## Check the shim's gate, waits, pool and queues in every order of steps, and that loom finds each mutation of them
	CARGO_TARGET_DIR=$(CURDIR)/$(BUILD)/loom $(CARGO) test --locked --manifest-path rust-shim/loom/Cargo.toml

# The C host is instrumented, and its leaks and the shim's are looked for. The shim is not: its tests run with the sanitizer's
# allocator, which finds blocks that are freed twice, wrongly, or written past their ends by the C library's functions.
# (Wasmtime has a handler for faults of its own, and stacks that the sanitizer does not know.)
ASAN_OPTIONS_SHIM := handle_segv=0:use_sigaltstack=0
asan: shim ## The C example and the shim's tests through the C ABI under AddressSanitizer
	mkdir -p $(BUILD)/asan
	$(CC) -std=c11 -g -Wall -Wextra -Werror -fsanitize=address,undefined -fno-sanitize-recover=all -Irust-shim/include \
		examples/c-host/stop.c -L$(BUILD) -llindshim -Wl,-rpath,$(abspath $(BUILD)) -lpthread -o $(BUILD)/asan/stop
	ASAN_OPTIONS=$(ASAN_OPTIONS_SHIM):detect_leaks=1 $(BUILD)/asan/stop
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="env LD_PRELOAD=$$($(CC) -print-file-name=libasan.so) ASAN_OPTIONS=$(ASAN_OPTIONS_SHIM):detect_leaks=0" \
		$(CARGO) test $(CARGO_ARGS) --test stop --test grates --test here

# The host in C, with the shim linked in and with the shim as a library.
test-c: shim ## Build and run the C example on the shim's header
	mkdir -p $(BUILD)/examples
	$(CC) -std=c11 -Wall -Wextra -Wpedantic -Werror -Irust-shim/include examples/c-host/stop.c \
		$(BUILD)/liblindshim.a -lpthread -ldl -lm -o $(BUILD)/examples/stop-static
	$(CC) -std=c11 -Irust-shim/include examples/c-host/stop.c \
		-L$(BUILD) -llindshim -Wl,-rpath,$(abspath $(BUILD)) -lpthread -o $(BUILD)/examples/stop
	$(BUILD)/examples/stop-static
	$(BUILD)/examples/stop

test-grates: ## Tests of the example grates' logic, on the host, with sanitizers
	CC=$(CC) scripts/test-grates-native.sh

race: shim guests-go ## Go tests under the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout $(GO_TEST_TIMEOUT) $(GO_TEST_ARGS) ./...

# How long each fuzz target runs.
FUZZTIME ?= 30s
fuzz: shim guests-go ## Run each fuzz target for a while: make fuzz FUZZTIME=5m [FUZZ='FuzzLoad FuzzCall']
	scripts/fuzz.sh $(FUZZTIME) $(FUZZ)

# More arguments for the benchmarks: make bench BENCH_ARGS='--compare old.json --only Spawn'
BENCH_ARGS ?=
bench: shim ## Measure beside what one would use instead, some 16 minutes: docs/benchmarks.md
	scripts/bench.sh $(BENCH_ARGS)

bench-quick: shim ## The same in two minutes, with few samples
	scripts/bench.sh --quick $(BENCH_ARGS)

bench-go: build guests-go ## Go benchmarks; GO_TEST_ARGS='-bench Kill' for some
	$(GO) test -run '^$$' -bench . -benchmem -timeout 60m $(GO_TEST_ARGS) ./...

test-bench: shim ## Tests of the benchmarks' own code
	cd bench && LINDBRIDGE_SHIM=$(abspath $(BUILD)/liblindshim.so) $(GO) test -timeout $(GO_TEST_TIMEOUT) ./...

lint: lint-go lint-rust lint-sh ## Formatting, vet and linters; warnings are errors

lint-go: $(GOLANGCI)
	$(GOLANGCI) fmt --diff
	$(GOLANGCI) run ./...
	$(GOLANGCI) run --build-tags invariants $(CHECKED)
	$(GOLANGCI) run --build-tags faults . ./internal/... ./rawposix
	cd bench && $(abspath $(GOLANGCI)) run --config ../.golangci.yml ./...
	GOOS=wasip1 GOARCH=wasm $(GO) vet ./guests/gowork

lint-rust:
	$(CARGO) fmt --all --manifest-path rust-shim/Cargo.toml --check
	$(CARGO) fmt --manifest-path rust-shim/loom/Cargo.toml --check
	$(CARGO) clippy $(CARGO_ARGS) --workspace --all-targets -- -D warnings

lint-sh:
	for script in scripts/*.sh guests/lind/build.sh .ci/run; do bash -n "$$script"; done

fmt: $(GOLANGCI) ## Format the Go and Rust sources
	$(GOLANGCI) fmt
	$(CARGO) fmt --all --manifest-path rust-shim/Cargo.toml
	$(CARGO) fmt --manifest-path rust-shim/loom/Cargo.toml

guests: deps guests-go ## Build the guest programs: testdata/guests, build/guests
	scripts/guests.sh testdata/guests
	$(GO) run ./guests/matrix/dump $(BUILD)/guests/matrix

# Go guests are megabytes, so they are not committed. No dependency of theirs is known to make: go build is quick to see.
guests-go:
	GOOS=wasip1 GOARCH=wasm $(GO) build -trimpath -o $(BUILD)/guests/gowork.wasm ./guests/gowork

guests-check: ## Fail if testdata/guests is not what guests/ builds
	scripts/guests.sh --check

header: $(CBINDGEN) ## Write the shim's C header from its sources
	cd rust-shim && $(abspath $(CBINDGEN)) --quiet --config cbindgen.toml --crate lindshim --output include/lindshim.h

header-check: $(CBINDGEN) ## Fail if the C header is not what its sources say, or is no good C or C++
	cd rust-shim && $(abspath $(CBINDGEN)) --quiet --config cbindgen.toml --crate lindshim --verify \
		--output include/lindshim.h
	printf '#include "lindshim.h"\n#include "lindshim.h"\n' | \
		$(CC) -std=c11 -Wall -Wextra -Wpedantic -Werror -Irust-shim/include -fsyntax-only -x c -
	command -v $(CXX) >/dev/null || exit 0; printf '#include "lindshim.h"\n#include "lindshim.h"\n' | \
		$(CXX) -std=c++17 -Wall -Wextra -Wpedantic -Werror -Irust-shim/include -fsyntax-only -x c++ -

# How often the matrix runs each of its programs.
TIMES ?= 200
matrix: shim ## Run the exit matrix many times over: make matrix TIMES=200
	LINDBRIDGE_MATRIX_TIMES=$(TIMES) $(GO) test -count=1 -timeout 60m -run 'TestExitMatrix|TestProposalShapes' $(GO_TEST_ARGS) .

# Packages with failure points, and the tests that use them.
FAULTS_SHIM := $(abspath $(BUILD))/faults/liblindshim.so
faults: shim-faults ## Have the host and the shim fail at every point, in every exit: LINDBRIDGE_FAULTS=all for all programs
	LINDBRIDGE_SHIM=$(FAULTS_SHIM) $(GO) test -tags faults -count=1 -timeout 30m $(GO_TEST_ARGS) ./internal/fault ./internal/soak

# How to soak: make soak SOAK='--for 8h --cages 1000'.
SOAK ?= --for 10m
soak: shim-faults ## Run random programs that end in every way, with faults, and check all of it: see lindbridge soak --help
	$(GO) build -tags faults -o $(BUILD)/lindbridge-faults ./cmd/lindbridge
	$(BUILD)/lindbridge-faults soak --faults --shim $(FAULTS_SHIM) $(SOAK)

suite: build ## Run the wasi-threads proposal's own tests: make suite SUITE=.../test/testsuite [TIMES=200]
	scripts/suite.sh $(BUILD)/lindbridge "$(or $(SUITE),$(error say where the suite is: make suite SUITE=DIR))" $(TIMES)

model: ## Check the model of the exit protocol: every configuration passes, every mutation fails (spin)
	scripts/model.sh

model-large: ## Check the model's configurations that take longer, up to 200 seconds each
	scripts/model.sh --large

deps: ## Install the Debian packages that building the C guests needs
	scripts/deps.sh

check: lint test race ## Everything that CI checks, and that the work tree has nothing left to commit
	git diff --exit-code
	test -z "$$(git status --porcelain)"

clean: ## Remove everything that was built
	rm -rf $(BUILD)

$(GOLANGCI):
	GOBIN=$(abspath $(TOOLS))/tmp $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(TOOLS)/tmp/golangci-lint $@

$(CBINDGEN):
	CARGO_TARGET_DIR=$(CURDIR)/$(BUILD)/cargo-tools $(CARGO) install --quiet --locked --root $(TOOLS)/tmp \
		--version $(CBINDGEN_VERSION) cbindgen
	mv $(TOOLS)/tmp/bin/cbindgen $@
