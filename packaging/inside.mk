# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Compiles inside the older userland (userland.sh), for ARCH. Below /build are the sources
# of others and what came of them, which is kept; below /corelock a copy of what this
# checkout's build made, thrown away every time. Paths are always the same, so the bytes are.
#
#   /corelock/libcorelock.so    for the wheel     /corelock/program    for the portable file

.DELETE_ON_ERROR:
# Not by a flag, which makefiles of others would inherit.
.SUFFIXES:

NATIVE := $(shell uname -m)
ARCH := $(NATIVE)
TOOLS := $(if $(filter-out $(NATIVE),$(ARCH)),$(ARCH)-linux-gnu-)
CC := $(TOOLS)gcc
CXX := $(TOOLS)g++

OUT := /build/$(ARCH)
LIBBPF := $(OUT)/libbpf/libbpf.a
PYTHON := $(OUT)/python/libpython3.13.a
NATIVE_PYTHON := /build/$(NATIVE)/python/python
# Compilers put the time into what asks for it: Debian's, of the source.
export SOURCE_DATE_EPOCH := $(shell cd /build/python && dpkg-parsechangelog -S Timestamp)
FLAGS := -O2 -fPIC -ffile-prefix-map=/build=. -ffile-prefix-map=/corelock=.

# --- libcorelock, with libbpf inside --------------------------------------------

LIB_FLAGS := # the checkout's Makefile says them
LIB_SOURCES := $(wildcard /corelock/src/loader/*.c)
LIB_OBJECTS := $(LIB_SOURCES:.c=.o)
# The userland's own linux/bpf.h is as old as it is.
LIBBPF_INCLUDES := -I$(OUT)/libbpf/include -I/build/libbpf/include/uapi

/corelock/libcorelock.so: $(LIB_OBJECTS) $(LIBBPF)
	$(CC) -shared -s -Wl,-z,defs -Wl,-z,relro,-z,now -Wl,-soname,libcorelock.so \
		-Wl,--version-script=/corelock/src/loader/libcorelock.map $^ -lelf -lz -lpthread -o $@

%.o: %.c $(LIBBPF)
	cd /corelock && $(CC) $(LIB_FLAGS) $(FLAGS) $(LIBBPF_INCLUDES) -c $< -o $@

$(LIBBPF):
	mkdir -p $(@D)
	$(MAKE) -C /build/libbpf/src BUILD_STATIC_ONLY=1 NO_PKG_CONFIG=1 CC=$(CC) AR=$(TOOLS)ar \
		CFLAGS="$(FLAGS)" OBJDIR=$(OUT)/libbpf DESTDIR=$(OUT)/libbpf PREFIX= LIBDIR=/lib \
		UAPIDIR=/include install install_headers

# --- CPython, all of its modules inside -----------------------------------------

# What configure would have to run to know.
CROSS_PYTHON := $(if $(TOOLS),--build=$(NATIVE)-linux-gnu --host=$(ARCH)-linux-gnu \
	--with-build-python=$(NATIVE_PYTHON) ac_cv_file__dev_ptmx=yes ac_cv_file__dev_ptc=no \
	ac_cv_buggy_getaddrinfo=no)

$(PYTHON): /build/python-modules $(if $(TOOLS),$(NATIVE_PYTHON))
	rm -rf $(@D) && mkdir -p $(@D)/Modules && cp $< $(@D)/Modules/Setup.local
	cd $(@D) && CFLAGS="$(FLAGS)" OPT=-DNDEBUG MODULE_BUILDTYPE=static ZLIB_CFLAGS=-DNDEBUG ZLIB_LIBS=-lz \
		../../python/configure --prefix=/nowhere --without-ensurepip --disable-test-modules \
		$(CROSS_PYTHON)
	$(MAKE) -C $(@D) $(if $(TOOLS),libpython3.13.a,python pybuilddir.txt)

ifneq ($(TOOLS),)
$(NATIVE_PYTHON): /build/python-modules
	$(MAKE) -f $(firstword $(MAKEFILE_LIST)) ARCH=$(NATIVE) /build/$(NATIVE)/python/libpython3.13.a
endif

# --- the extension modules of cffi and pydemumble -------------------------------

PYTHON_INCLUDES := -I/build/python/Include -I$(OUT)/python
DEMUMBLE := /build/pydemumble/src
DEMUMBLE_SOURCES := $(addprefix $(DEMUMBLE)/,pydemumble.cpp rust_legacy/rust_legacy_demangle.cc \
	$(addprefix third_party/llvm/lib/Demangle/,DLangDemangle.cpp ItaniumDemangle.cpp \
		MicrosoftDemangle.cpp MicrosoftDemangleNodes.cpp RustDemangle.cpp) \
	nanobind/src/nb_combined.cpp) \
	$(wildcard $(DEMUMBLE)/third_party/swift/lib/Demangling/*.cpp)
DEMUMBLE_OBJECTS := $(DEMUMBLE_SOURCES:$(DEMUMBLE)/%=$(OUT)/pydemumble/%.o)
DEMUMBLE_FLAGS := $(FLAGS) -std=c++17 -w -fvisibility=hidden -fno-strict-aliasing -DNDEBUG \
	-DNB_COMPACT_ASSERTIONS -DLLVM_DISABLE_ABI_BREAKING_CHECKS_ENFORCING=1 \
	-DSWIFT_SUPPORT_OLD_MANGLING=1 -DSWIFT_STDLIB_HAS_TYPE_PRINTING=1 \
	$(addprefix -I$(DEMUMBLE)/,rust_legacy third_party/llvm/include third_party/swift/include \
		nanobind/include nanobind/ext/robin_map/include) $(PYTHON_INCLUDES)

$(OUT)/pydemumble/%.o: $(DEMUMBLE)/% $(PYTHON)
	mkdir -p $(@D) && $(CXX) $(DEMUMBLE_FLAGS) -c $< -o $@

$(OUT)/cffi.o: /build/cffi/src/c/_cffi_backend.c $(PYTHON)
	$(CC) $(FLAGS) -w -fvisibility=hidden -DFFI_BUILDING=1 -DUSE__THREAD \
		-DHAVE_SYNC_SYNCHRONIZE $(PYTHON_INCLUDES) -c $< -o $@

# --- the program: all of it but what is written in Python -----------------------

/corelock/program.o: /corelock/packaging/program.c $(PYTHON)
	$(CC) -Wall -Wextra -Werror $(FLAGS) $(PYTHON_INCLUDES) -c $< -o $@

# cffi finds the library's functions by name, in the program itself.
/corelock/program: /corelock/program.o $(OUT)/cffi.o $(DEMUMBLE_OBJECTS) $(LIB_OBJECTS) \
		$(LIBBPF) $(PYTHON)
	$(CXX) -pie -s -static-libgcc -static-libstdc++ -Wl,-z,relro,-z,now \
		-Wl,--export-dynamic-symbol='corelock_*' $^ \
		$(OUT)/python/Modules/_hacl/libHacl_Hash_SHA2.a \
		-l:libelf.a -l:libz.a -l:libffi.a -lpthread -ldl -lutil -lm -o $@

# --- licences of what is linked in, with what Debian says of it ------------------

DOC := /usr/share/doc
COMMON := $(addprefix /usr/share/common-licenses/,GPL-2 GPL-3 LGPL-2.1 LGPL-3)
IN_LIBRARY := /build/libbpf/debian/copyright $(DOC)/libelf1/copyright
IN_PROGRAM := $(IN_LIBRARY) $(DOC)/zlib1g/copyright $(DOC)/libffi7/copyright \
	$(DOC)/gcc-10-base/copyright /build/python/debian/copyright /build/cffi/LICENSE \
	/build/pydemumble/LICENSE $(DEMUMBLE)/nanobind/LICENSE \
	$(DEMUMBLE)/nanobind/ext/robin_map/LICENSE \
	$(wildcard $(DEMUMBLE)/third_party/*/LICENSE*)

/corelock/libcorelock.licenses: $(IN_LIBRARY) $(COMMON)
/corelock/program.licenses: $(IN_PROGRAM) $(COMMON)

%.licenses:
	for part in $^; do printf '\n======== %s\n' $$part; cat $$part; done >$@
