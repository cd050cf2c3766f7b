#!/bin/sh
# wheeltest.sh WHEEL FULL VERSION...: installs WHEEL for each CPython VERSION and runs the
# tests on it: all of them on FULL, on the others what depends on Python, speed aside (or
# WHEEL_TESTS).
#
# They run in a folder that has the tests and what they look at, and no corelock/.
set -eu
cd "$(dirname "$0")/.."

WHEEL=$1
FULL=$2
shift 2
SOME=${WHEEL_TESTS:-tests/unit tests/abi tests/cli tests/kernel/test_against_ftrace.py}
[ -e "$WHEEL" ] || {
	echo "corelock: there is no wheel $WHEEL; run make wheel" >&2
	exit 1
}
wheel=$(realpath "$WHEEL")

interpreter() {
	versions=$(! command -v pyenv >/dev/null || echo "$(pyenv root)/versions")
	for python in "python$1" "$versions/$1".*/bin/python; do
		# pyenv has a command for every version, and not every one does something.
		if "$python" -c pass 2>/dev/null; then
			command -v "$python"
			return
		fi
	done
}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder" # tests become other users
cp -R tests tools src docs build pyproject.toml "$folder"
rm -rf "$folder/build/packaging" "$folder/tests/packaging"
cd "$folder"

tested='' failed=''
for version in "$@"; do
	python=$(interpreter "$version")
	if [ -z "$python" ]; then
		echo "corelock: Python $version is not to be had here: not tested" >&2
		continue
	fi
	tests=$SOME select="not are_fast"
	[ "$version" != "$FULL" ] || tests='' select=''
	echo "corelock: the wheel on Python $version: ${tests:-all tests}" >&2
	rm -rf .venv
	"$python" -m venv .venv
	.venv/bin/python -m pip install -qq --disable-pip-version-check "$wheel[test]"
	.venv/bin/python -c 'import corelock, sys
sys.exit(None if "/site-packages/" in corelock.__file__ else f"this is {corelock.__file__}")'
	.venv/bin/python -m pytest -q -k "$select" $tests || failed="$failed $version"
	tested="$tested $version"
done
[ -n "$tested" ] || {
	echo "corelock: none of Python $* is here; name others: make wheeltest WHEEL_PYTHONS=3.x" >&2
	exit 1
}
echo "corelock: the wheel was tested on Python$tested${failed:+, and failed on$failed}" >&2
[ -z "$failed" ]
