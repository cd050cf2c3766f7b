# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# What others install, in dist/ (docs/portability.md):
#
# make wheel      for pip                   make portable   one file, without Python
# make sdist      the source                make wheeltest  the tests, on the wheel
#
# ARCH=aarch64 (or x86_64) makes a wheel or a file for that machine on this one.

ARCH := $(shell uname -m)
# Python versions to test the wheel on; those that are not to be had here are named.
WHEEL_PYTHONS := 3.9 3.10 3.11 3.12 3.13

.PHONY: wheel sdist portable wheeltest
COMPILE = LIB_FLAGS='$(LIB_FLAGS)' PYTHON=$(PYTHON) sh packaging/compile.sh $(ARCH)
COMPILED := $(SKELETONS) $(BUILD)/fingerprint.h $(BUILD)/.abi_checked $(GENERATED)

wheel: $(COMPILED) $(BUILD)/packaging/.installed
	$(call say,COMPILE,$(BUILD)/$(ARCH)/libcorelock.so)$(COMPILE) libcorelock.so libcorelock.licenses
	$(call say,WHEEL,$(ARCH))sh packaging/wheel.sh $(ARCH)

portable: $(COMPILED)
	$(call say,COMPILE,$(BUILD)/$(ARCH)/program)$(COMPILE) program program.licenses
	$(call say,PORTABLE,dist/corelock-$(ARCH))PYTHON=$(PYTHON) sh packaging/portable.sh $(ARCH)

sdist: $(BUILD)/packaging/.installed
	$(call say,SDIST,dist)$(BUILD)/packaging/bin/python -c \
		'from setuptools.build_meta import build_sdist; build_sdist("dist")' >$(BUILD)/sdist.log

wheeltest: wheel workloads $(BUILD)/.test_packages
	$(Q)sh packaging/wheeltest.sh dist/corelock-*-$(ARCH).whl $(WHEEL_PYTHONS)

$(BUILD)/packaging/.installed: packaging/tools.txt | $(BUILD)/.packages
	$(call say,VENV,$(BUILD)/packaging)python3 -m venv $(BUILD)/packaging && \
		$(BUILD)/packaging/bin/python -m pip install -qq --disable-pip-version-check \
		--require-hashes -r packaging/tools.txt && touch $@
