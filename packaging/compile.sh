#!/bin/sh
# compile.sh ARCH FILE...: compiles FILEs (inside.mk) in the older userland, for ARCH, into
# build/ARCH/. The userland is kept outside the checkout; one compilation at a time uses it.
set -eu
cd "$(dirname "$0")/.."

ARCH=$1
shift
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/corelock-build
ROOT=$CACHE/userland
mkdir -p "$CACHE" "build/$ARCH"
exec 9>"$CACHE/lock"
flock 9

sh packaging/userland.sh "$ROOT" "$ARCH"
rm -rf "$ROOT/corelock"
mkdir -p "$ROOT/corelock/build"
cp -R packaging src "$ROOT/corelock/"
# Only what has changed makes CPython compile again.
cmp -s packaging/python-modules "$ROOT/build/python-modules" ||
	cp packaging/python-modules "$ROOT/build/"
cp build/*.skel.h build/fingerprint.h "$ROOT/corelock/build/"
targets=
for file in "$@"; do targets="$targets /corelock/$file"; done
# A clean environment: what this build says to make is not for makefiles of others.
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$ROOT" \
	make -f /corelock/packaging/inside.mk -j"$(nproc)" ARCH="$ARCH" LIB_FLAGS="$LIB_FLAGS" $targets \
	>"build/$ARCH/compile.log" 2>&1 || {
	tail -n 20 "build/$ARCH/compile.log" >&2
	echo "corelock: $* did not compile for $ARCH; all of it: build/$ARCH/compile.log" >&2
	exit 1
}
for file in "$@"; do cp "$ROOT/corelock/$file" "build/$ARCH/"; done
