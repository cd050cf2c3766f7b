#!/bin/sh
# wheel.sh ARCH VENV: makes dist/corelock-*-ARCH.whl of the library that compile.sh has made.
# Two builds of a commit give the same bytes: times, modes and tools are set.
set -eu
cd "$(dirname "$0")/.."

ARCH=$1
TOOLS=$(realpath "$2")/bin
PLATFORM=manylinux_2_31_$ARCH # packaging/userland.sh: its glibc
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/corelock-build
LOG=build/$ARCH/wheel.log
umask 022

fail() {
	tail -n 20 "$LOG" >&2
	echo "corelock: $1; see $LOG" >&2
	exit 1
}

stage=build/$ARCH/wheel
rm -rf "$stage"
mkdir -p "$stage" dist
cp -R corelock pyproject.toml setup.py README.md "$stage/"
cp "build/$ARCH/libcorelock.so" "$stage/corelock/"
cp "build/$ARCH/libcorelock.licenses" "$stage/LICENSE.parts"
chmod -R u=rwX,go=rX "$stage"

(cd "$stage" && _PYTHON_HOST_PLATFORM=linux-$ARCH "$TOOLS/python" -c \
	'from setuptools.build_meta import build_wheel; print(build_wheel("."))') \
	>"$LOG" 2>&1 || fail "setuptools cannot build the wheel"

# Grafts libelf. It is looked for where it was linked.
rm -f "dist/corelock-"*"-$PLATFORM.whl"
PATH=$TOOLS:$PATH "$TOOLS/auditwheel" repair --plat "$PLATFORM" --only-plat -w dist \
	--ldpaths "$CACHE/userland/usr/lib/$ARCH-linux-gnu" "$stage"/*.whl >>"$LOG" 2>&1 ||
	fail "auditwheel does not take the wheel for $PLATFORM"
wheel=$(echo "dist/corelock-"*"-py3-none-$PLATFORM.whl")
"$TOOLS/auditwheel" show "$wheel" >"$LOG" 2>&1 || fail "auditwheel cannot read $wheel"
# It names the oldest glibc that has all that is asked of it.
shown=$(grep -o '"manylinux_2_[0-9]*' "$LOG" | head -n 1)
[ "${shown##*_}" -le 31 ] || fail "auditwheel finds that $wheel is not what its name says"
