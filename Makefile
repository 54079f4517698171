# What a developer or a newcomer does with this project, one word each.
# `make help` lists the targets. They need make, a C compiler and the Rust
# toolchain; on Linux `make vulkan` adds a Vulkan driver where there is none.

CARGO ?= cargo
# The lock file is part of the project: CARGO_FLAGS= lets cargo change it.
CARGO_FLAGS ?= --locked
# Tools that cargo installs for this project only.
TOOLS := target/tools

.DEFAULT_GOAL := help
.PHONY: help demo train-demo build vulkan test test-kernels test-latest-mesa lint audit fuzz gpu-report rehearse-gpu

help: ## Lists the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | \
	    while IFS='|' read -r name text; do printf '  make %-17s %s\n' "$$name" "$$text"; done

demo: build vulkan ## Builds, then classifies the sample images with the built-in model
	@bash scripts/demo.sh

train-demo: build vulkan ## Trains the built-in model's last layers and a new classifier for three minutes
	@bash scripts/train-demo.sh

build:
	$(CARGO) build --release $(CARGO_FLAGS)

vulkan: ## Makes sure that there is a Vulkan driver (Linux; installs Mesa's if not)
	@bash scripts/setup-vulkan.sh

test: vulkan ## Runs every test; a GPU test that cannot run fails
	VIT_GPU_REQUIRE=1 $(CARGO) test $(CARGO_FLAGS)

test-kernels: vulkan ## Runs every kernel variant in all its cases (30 minutes); `make test` does so in f32 alone
	VIT_GPU_REQUIRE=1 VIT_GPU_WAYS=all $(CARGO) test $(CARGO_FLAGS) --test kernels

test-latest-mesa: ## Runs the tests on Debian unstable's Mesa (root; MESA_TESTS="kernels lib" picks)
	@MESA_TESTS="$(MESA_TESTS)" bash scripts/latest-mesa.sh

lint: ## Checks formatting, clippy and the documentation; warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets $(CARGO_FLAGS) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps $(CARGO_FLAGS)

gpu-report: ## Measures this machine's GPU for 8 minutes: tables and figures in target/gpu-report (docs/gpu.md)
	@bash scripts/gpu-report.sh

rehearse-gpu: ## Rehearses that on a machine without a GPU (root, Linux; 25 minutes)
	@bash scripts/rehearse-gpu.sh

audit: $(TOOLS)/bin/cargo-deny ## Checks the dependencies' licences, sources and bans (deny.toml)
	$(TOOLS)/bin/cargo-deny $(CARGO_FLAGS) check --hide-inclusion-graph bans licenses sources

fuzz: $(TOOLS)/bin/cargo-fuzz ## Runs each fuzz target for FUZZ_SECONDS (60); FUZZ_TARGETS picks
	@FUZZ_SECONDS="$(FUZZ_SECONDS)" FUZZ_TARGETS="$(FUZZ_TARGETS)" bash scripts/fuzz.sh

$(TOOLS)/bin/cargo-deny:
	$(CARGO) install --locked --root $(TOOLS) --version '^0.20' cargo-deny

$(TOOLS)/bin/cargo-fuzz:
	$(CARGO) install --locked --root $(TOOLS) --version '^0.13' cargo-fuzz
