# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# What others install, in dist/ (docs/portability.md):
#
# make wheel      for pip                   make portable    one file, without Python
# make sdist      the source                make distcheck   all three, and their tests
# make wheeltest  the whole tests, on the installed wheel
#
# ARCH=aarch64 (or x86_64) makes a wheel or a file for that machine on this one.

ARCH := $(shell uname -m)
# Versions of Python to test the wheel on; who is not here is named. All tests run on one.
WHEEL_PYTHONS := 3.9 3.10 3.11 3.12 3.13
WHEEL_PYTHON_FULL := 3.13
# With all that makes wheels, pinned.
WHEEL_VENV := $(BUILD)/packaging
# What is also run on the portable file.
COMMAND_TESTS := $(addprefix tests/cli/test_,usage.py output.py blame_command.py \
	holders_command.py)
# What the portable file meets on a small host, and a program of C++ to trace.
DIST_TEST_PACKAGES := busybox-static g++ libcap2-bin

# Everything made from a commit has its time; a source archive carries it as PKG-INFO's. That
# is asked first: around an unpacked archive may be a repository of something else.
EPOCH = $(shell stat -c %Y PKG-INFO 2>/dev/null || git log -1 --format=%ct)
PACK = SOURCE_DATE_EPOCH=$(EPOCH) PYTHON=$(abspath $(PYTHON))
COMPILE = $(PACK) LIB_FLAGS='$(LIB_FLAGS)' sh packaging/compile.sh $(ARCH)
# What was copied can be compared with what was made.
SUMS = $(call say,SHA256,dist/SHA256SUMS)cd dist && sha256sum corelock-* >SHA256SUMS
COMPILED := $(SKELETONS) $(BUILD)/fingerprint.h $(BUILD)/.abi_checked $(GENERATED)

.PHONY: wheel sdist portable wheeltest distcheck
wheel: $(COMPILED) $(WHEEL_VENV)/.installed
	$(call say,COMPILE,$(BUILD)/$(ARCH)/libcorelock.so)$(COMPILE) libcorelock.so libcorelock.licenses
	$(call say,WHEEL,$(ARCH))$(PACK) sh packaging/wheel.sh $(ARCH) $(WHEEL_VENV)
	$(SUMS)

portable: $(COMPILED)
	$(call say,COMPILE,$(BUILD)/$(ARCH)/program)$(COMPILE) program program.licenses
	$(call say,PORTABLE,dist/corelock-$(ARCH))$(PACK) sh packaging/portable.sh $(ARCH)
	$(SUMS)

sdist: $(WHEEL_VENV)/.installed
	$(call say,SDIST,dist)$(PACK) sh packaging/sdist.sh $(WHEEL_VENV)
	$(SUMS)

wheeltest: wheel workloads $(BUILD)/.test_packages $(BUILD)/npm/.installed
	$(Q)sh packaging/wheeltest.sh dist/corelock-*-manylinux_*_$(ARCH).whl $(WHEEL_PYTHON_FULL) \
		$(WHEEL_PYTHONS)

distcheck: all wheel portable sdist workloads $(BUILD)/.test_packages
	$(Q)sh tools/packages.sh $(DIST_TEST_PACKAGES)
	$(Q)$(PYTHON) -m pytest $(PYTEST_ARGS) tests/packaging
	$(Q)cp dist/corelock-$(ARCH) $(BUILD)/$(ARCH)/corelock
	$(Q)CORELOCK_TEST_COMMAND=$(CURDIR)/$(BUILD)/$(ARCH)/corelock $(PYTHON) -m pytest \
		$(PYTEST_ARGS) $(COMMAND_TESTS)

$(WHEEL_VENV)/.installed: packaging/tools.txt | $(BUILD)/.packages
	$(call say,VENV,$(WHEEL_VENV))python3 -m venv $(WHEEL_VENV) && \
		$(WHEEL_VENV)/bin/python -m pip install -qq --disable-pip-version-check \
		--require-hashes -r packaging/tools.txt && touch $@
