# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# make            build everything          make demo    see it work
# make test       run all tests             make check   linters, types, formats
# make bench      measure the overhead      make vmtest  test on other kernels
# make wheel, sdist, portable: packaging/packaging.mk        make help    this list
#
# V=1 shows the commands.

.DELETE_ON_ERROR:
.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules

BUILD := build
VENV := .venv
PYTHON := $(VENV)/bin/python
export PATH := $(PATH):/usr/sbin:/sbin

CLANG ?= clang
LLVM_STRIP ?= llvm-strip
BPFTOOL ?= bpftool
CC := cc

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-9s %s\n' '$(1)' '$(2)';)

BUILD_PACKAGES := clang llvm bpftool libbpf-dev libelf-dev zlib1g-dev gcc libc6-dev \
	linux-libc-dev python3-venv
BENCH_PACKAGES := bpftrace linux-perf
TEST_PACKAGES := binutils bpftrace chromium chromium-driver default-jdk-headless gcc-aarch64-linux-gnu \
	gdb golang-go libc6-dbg libc6-dev-arm64-cross postgresql prometheus qemu-user \
	systemtap-sdt-dev tmux
# The schema that files for speedscope are judged by, and the viewer itself.
SPEEDSCOPE := speedscope@1.25.0
VM_PACKAGES := cpio gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-system-arm qemu-system-x86

# Another folder with a vmlinux.h, while new kernel types are being used (vmlinux/README.md).
BPF_TYPES := vmlinux
WARNINGS := -Wall -Wextra -Werror
# No path of this checkout gets into what users are given.
BPF_FLAGS := -target bpf -mcpu=v3 -g -O2 $(WARNINGS) -Wno-unused-parameter -I$(BPF_TYPES) -Isrc/abi \
	-ffile-prefix-map=$(CURDIR)=.
# -fms-extensions: a struct may take in another one's members, as the kernel's do.
LIB_FLAGS := -std=gnu11 -fms-extensions -D_GNU_SOURCE -O2 -g -fPIC -fvisibility=hidden $(WARNINGS) \
	-isystem $(BUILD) -Isrc/loader
WORKLOAD_FLAGS := -O1 -g -fno-omit-frame-pointer -pthread $(WARNINGS)

ABI := src/abi/corelock_abi.h src/loader/corelock.h
LIBRARY := corelock/libcorelock.so
GENERATED := corelock/_ffi/_generated.py
SKELETONS := $(patsubst src/bpf/%.bpf.c,$(BUILD)/%.skel.h,$(wildcard src/bpf/*.bpf.c))
LIB_OBJECTS := $(patsubst src/loader/%.c,$(BUILD)/%.o,$(wildcard src/loader/*.c))
WORKLOADS := $(patsubst tests/workloads/%.c,$(BUILD)/workloads/%,$(wildcard tests/workloads/*.c))

# Statically linked, for guests (tests/vm).
GUEST_WORKLOADS := fork_large known_calls lock_chain mprotect_large smaps_reader storm
GUEST_MACHINES := x86_64 $(if $(KERNELS),$(if $(findstring arm64,$(KERNELS)),aarch64),aarch64)
GUEST_PROGRAMS := $(foreach machine,$(GUEST_MACHINES), \
	$(patsubst %,$(BUILD)/vm/$(machine)/%,$(GUEST_WORKLOADS) drain))

.PHONY: all demo test check bench vmtest fleettest vmlinux format help clean workloads
all: $(LIBRARY) $(VENV)/.installed

demo: all $(BUILD)/workloads/demo
	$(Q)$(VENV)/bin/corelock hold-times -s 2 -- $(BUILD)/workloads/demo

# What measures nothing and traces nothing runs side by side; all the rest has the machine alone.
SIDE_BY_SIDE := tests/unit tests/abi
ALONE := tests/cli tests/browser tests/kernel
test: all workloads $(BUILD)/.test_packages $(BUILD)/npm/.installed
ifdef PYTEST_ARGS
	$(Q)$(PYTHON) -m pytest $(PYTEST_ARGS)
else
	$(Q)$(PYTHON) -m pytest --numprocesses=2 --dist=loadfile $(SIDE_BY_SIDE)
	$(Q)$(PYTHON) -m pytest $(ALONE)
endif

check: all workloads $(VENV)/.checkers
	$(call say,RUFF,.)$(VENV)/bin/ruff check -q . && $(VENV)/bin/ruff format -q --check .
	$(call say,MYPY,corelock)$(VENV)/bin/mypy
	$(call say,FORMAT,src)$(VENV)/bin/clang-format --dry-run -Werror \
		$$(git ls-files 'src/*.[ch]' 'packaging/*.c' 'bench/*.[ch]' 'tests/*.[ch]' 'vmlinux/*.h')
	$(call say,SYMBOLS,$(LIBRARY))sh tools/check_symbols.sh $(LIBRARY) src/loader/libcorelock.map

bench: all workloads $(BUILD)/floor
	$(Q)sh tools/packages.sh $(BENCH_PACKAGES)
	$(Q)$(PYTHON) bench/bench.py $(BENCH_ARGS)

# KERNELS="5.10 newest": these alone, by their names in tests/vm/kernels.toml. A run of all
# writes docs/kernels.md, whatever came out. PYTEST_ARGS=--again: judges what the last boots left.
vmtest: all $(GUEST_PROGRAMS)
	$(Q)for machine in $(GUEST_MACHINES); do $(MAKE) portable ARCH=$$machine || exit; done
	$(Q)$(PYTHON) -m pytest tests/vm/matrix.py $(PYTEST_ARGS) \
		$(if $(KERNELS),--kernels="$(KERNELS)"); \
		status=$$?; $(PYTHON) -m tests.vm.page && exit $$status

# What the programs touch of the kernel's types, by the running kernel's BTF.
vmlinux: $(SKELETONS:.skel.h=.bpf.o)
	$(Q)$(BPFTOOL) gen min_core_btf /sys/kernel/btf/vmlinux $(BUILD)/used.btf $^
	$(Q)$(BPFTOOL) btf dump file $(BUILD)/used.btf format c | grep -Ev '^\s*(long|int|short|char): [0-9]+;'

format: $(VENV)/.checkers
	$(Q)$(VENV)/bin/ruff check -q --fix . ; $(VENV)/bin/ruff format -q .
	$(Q)$(VENV)/bin/clang-format -i \
		$$(git ls-files 'src/*.[ch]' 'packaging/*.c' 'bench/*.[ch]' 'tests/*.[ch]' 'vmlinux/*.h')

# The SQL of docs/fleet.md in ClickHouse and Spark: 640 MB of packages, which no other test wants.
fleettest: all $(BUILD)/.test_packages $(BUILD)/fleet-venv/.installed
	$(Q)$(BUILD)/fleet-venv/bin/python -m pytest tests/fleet_engines.py $(PYTEST_ARGS)

$(BUILD)/fleet-venv/.installed: pyproject.toml | $(VENV)/.installed $(BUILD)
	$(call say,PIP,fleet)python3 -m venv $(@D) && $(@D)/bin/python -m pip install -qq \
		--disable-pip-version-check --config-settings editable_mode=compat \
		-e '.[test]' chdb pyspark && touch $@

help:
	@sed -n '3,6s/^# //p' Makefile

clean:
	$(Q)rm -rf $(BUILD) $(LIBRARY) $(GENERATED)

workloads: $(WORKLOADS)

# --- what the machine must have -------------------------------------------------

$(BUILD)/.packages: tools/packages.sh Makefile | $(BUILD)
	$(Q)sh tools/packages.sh $(BUILD_PACKAGES)
	$(Q)touch $@

# Programs to trace. Who may not install them can test all the rest; CI cannot do without.
$(BUILD)/.test_packages: tools/packages.sh Makefile | $(BUILD)
	$(Q)if sh tools/packages.sh $(TEST_PACKAGES); then touch $@; \
		else [ "$$CORELOCK_KERNEL_TESTS" != 1 ]; fi

$(BUILD)/npm/.installed: Makefile | $(BUILD)
	$(call say,NPM,$(SPEEDSCOPE))mkdir -p $(@D); \
	if { command -v npm >/dev/null || sh tools/packages.sh npm; } && npm install --silent \
		--no-save --no-package-lock --prefix $(@D) $(SPEEDSCOPE) >/dev/null; then touch $@; \
		else [ "$$CORELOCK_KERNEL_TESTS" != 1 ]; fi

$(VENV)/.created: | $(BUILD)/.packages
	$(call say,VENV,$(VENV))python3 -m venv $(VENV) && touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.created
	$(call say,PIP,corelock)$(PYTHON) -m pip install -qq --disable-pip-version-check \
		--config-settings editable_mode=compat -e '.[test]' && touch $@

$(VENV)/.checkers: pyproject.toml | $(VENV)/.installed
	$(call say,PIP,checkers)$(PYTHON) -m pip install -qq --disable-pip-version-check \
		--config-settings editable_mode=compat -e '.[check]' && touch $@

$(BUILD) $(BUILD)/workloads:
	$(Q)mkdir -p $@

# --- BPF: compile, strip DWARF (BTF stays), make the skeleton -------------------

$(BUILD)/%.full.bpf.o: src/bpf/%.bpf.c $(BUILD)/.packages
	$(call say,BPF,$<)$(CLANG) $(BPF_FLAGS) -MMD -MT $@ -MF $(BUILD)/$*.full.bpf.d -c $< -o $@

$(BUILD)/floor.full.bpf.o: bench/floor.bpf.c $(BUILD)/.packages
	$(call say,BPF,$<)$(CLANG) $(BPF_FLAGS) -c $< -o $@

$(BUILD)/%.bpf.o: $(BUILD)/%.full.bpf.o
	$(call say,STRIP,$@)$(LLVM_STRIP) -g $< -o $@

$(BUILD)/%.skel.h: $(BUILD)/%.bpf.o
	$(call say,SKELETON,$@)$(BPFTOOL) gen skeleton $< name $*_bpf >$@

# --- the contract, as cffi sees it, asserted by both compilers ------------------

$(GENERATED) $(BUILD)/abi_check.c $(BUILD)/public_check.c $(BUILD)/fingerprint.h &: \
		$(ABI) tools/generate_ffi.py | $(VENV)/.installed $(BUILD)
	$(call say,FFI,$(GENERATED))$(PYTHON) tools/generate_ffi.py --python $(GENERATED) \
		--abi-check $(BUILD)/abi_check.c --public-check $(BUILD)/public_check.c \
		--fingerprint $(BUILD)/fingerprint.h >/dev/null

$(BUILD)/.abi_checked: $(BUILD)/abi_check.c $(BUILD)/public_check.c $(BUILD)/.packages
	$(call say,ASSERT,$<)$(CLANG) $(BPF_FLAGS) -c $< -o $(BUILD)/abi_check.bpf.o && \
		$(CC) $(WARNINGS) -Wpadded -Isrc/abi -c $< -o $(BUILD)/abi_check.o && \
		$(CC) $(WARNINGS) -Wpadded -Isrc/loader -c $(BUILD)/public_check.c \
			-o $(BUILD)/public_check.o && touch $@

# --- the library ----------------------------------------------------------------

$(BUILD)/%.o: src/loader/%.c $(SKELETONS) $(BUILD)/fingerprint.h $(BUILD)/.abi_checked
	$(call say,CC,$<)$(CC) $(LIB_FLAGS) -MMD -c $< -o $@

$(LIBRARY): $(LIB_OBJECTS) src/loader/libcorelock.map
	$(call say,LINK,$@)$(CC) -shared -Wl,-z,defs -Wl,-soname,libcorelock.so \
		-Wl,--version-script=src/loader/libcorelock.map $(LIB_OBJECTS) -lbpf -lz -o $@

# --- for tests and benchmarks ---------------------------------------------------

$(BUILD)/workloads/%: tests/workloads/%.c tests/workloads/workload.h $(BUILD)/.packages \
		| $(BUILD)/workloads
	$(call say,CC,$<)$(CC) $(WORKLOAD_FLAGS) $< -o $@

# Static probes are made by a header of their own. Who may not install it can build all the rest.
$(BUILD)/workloads/known_calls: $(BUILD)/.sdt_packages

$(BUILD)/.sdt_packages: tools/packages.sh Makefile | $(BUILD)
	$(Q)if sh tools/packages.sh systemtap-sdt-dev; then touch $@; \
		else [ "$$CORELOCK_KERNEL_TESTS" != 1 ]; fi

# As programs are compiled by default.
$(BUILD)/workloads/call_chain $(BUILD)/workloads/two_callers: WORKLOAD_FLAGS := -O2 -g -fomit-frame-pointer -pthread $(WARNINGS)

$(BUILD)/.vm_packages: tools/packages.sh Makefile | $(BUILD)
	$(Q)sh tools/packages.sh $(VM_PACKAGES)
	$(Q)touch $@

define guest_programs
$(BUILD)/vm/$(1)/%: tests/workloads/%.c tests/workloads/workload.h $(BUILD)/.vm_packages
	$$(Q)mkdir -p $$(@D)
	$$(call say,CC,$$@)$(1)-linux-gnu-gcc -static $$(WORKLOAD_FLAGS) $$< -o $$@

$(BUILD)/vm/$(1)/drain: tests/vm/guest/drain.c $(BUILD)/.vm_packages
	$$(Q)mkdir -p $$(@D)
	$$(call say,CC,$$@)$(1)-linux-gnu-gcc -static $$(WORKLOAD_FLAGS) $$< -o $$@
endef
# Its macros are the same on all machines, and Debian has them in a folder of one.
$(BUILD)/sdt/sys: $(BUILD)/.sdt_packages
	$(Q)mkdir -p $@ && ln -sf /usr/include/$$(gcc -dumpmachine)/sys/sdt*.h $@/ && touch $@

$(foreach machine,x86_64 aarch64,$(BUILD)/vm/$(machine)/known_calls): $(BUILD)/sdt/sys
$(foreach machine,x86_64 aarch64,$(BUILD)/vm/$(machine)/known_calls): WORKLOAD_FLAGS += -I$(BUILD)/sdt

$(foreach machine,x86_64 aarch64,$(eval $(call guest_programs,$(machine))))

$(BUILD)/floor: bench/floor.c $(BUILD)/floor.skel.h
	$(call say,CC,$<)$(CC) -O2 $(WARNINGS) -isystem $(BUILD) $< -lbpf -o $@

include packaging/packaging.mk

.SECONDARY:
-include $(wildcard $(BUILD)/*.d)
