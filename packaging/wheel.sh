#!/bin/sh
# wheel.sh ARCH VENV: makes dist/corelock-*-ARCH.whl of the library that compile.sh has made.
# Two builds of a commit give the same bytes: times, modes and tools are set.
set -eu
cd "$(dirname "$0")/.."

ARCH=$1
TOOLS=$(realpath "$2")/bin
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
cp -R corelock LICENSES pyproject.toml setup.py README.md "$stage/"
cp "build/$ARCH/libcorelock.so" "$stage/corelock/"
cp "build/$ARCH/libcorelock.licenses" "$stage/LICENSES/parts"
chmod -R u=rwX,go=rX "$stage"

(cd "$stage" && _PYTHON_HOST_PLATFORM=linux-$ARCH "$TOOLS/python" -c \
	'from setuptools.build_meta import build_wheel; print(build_wheel("."))') \
	>"$LOG" 2>&1 || fail "setuptools cannot build the wheel"

# Grafts libelf, looked for where it was linked, and names the wheel after the oldest glibc
# that has all that is asked of it; the userland's own is the newest that it can be.
rm -f dist/corelock-*-manylinux_*_"$ARCH".whl
PATH=$TOOLS:$PATH "$TOOLS/auditwheel" repair --plat auto -w dist \
	--ldpaths "$CACHE/userland/usr/lib/$ARCH-linux-gnu" "$stage"/*.whl >>"$LOG" 2>&1 ||
	fail "auditwheel does not take the wheel"
wheel=$(echo dist/corelock-*-manylinux_*_"$ARCH".whl)
"$TOOLS/auditwheel" show "$wheel" >"$LOG" 2>&1 || fail "auditwheel cannot read $wheel"
minor=$(grep -o '"manylinux_2_[0-9]*' "$LOG" | head -n 1 | sed 's/.*_//')
[ "$minor" -le 31 ] || fail "$wheel needs a glibc newer than 2.31"
case $wheel in
*"manylinux_2_${minor}_$ARCH.whl") ;;
*) fail "auditwheel finds that $wheel is not what its name says" ;;
esac
