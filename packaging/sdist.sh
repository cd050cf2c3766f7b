#!/bin/sh
# sdist.sh VENV: makes dist/corelock-VERSION.tar.gz. Two of a commit are the same bytes:
# setuptools chooses what is inside, but has the time of day and the umask in it.
set -eu
cd "$(dirname "$0")/.."

TOOLS=$(realpath "$1")/bin
LOG=build/sdist.log

stage=build/sdist
rm -rf "$stage" dist/corelock-*.tar.gz
mkdir -p "$stage" dist
# What it has listed before it would list again, whatever it was told to leave out since.
rm -f corelock.egg-info/SOURCES.txt
"$TOOLS/python" -c 'from setuptools.build_meta import build_sdist; build_sdist("build/sdist")' \
	>"$LOG" 2>&1 || {
	tail -n 20 "$LOG" >&2
	echo "corelock: setuptools cannot build the source archive; see $LOG" >&2
	exit 1
}
archive=$(basename "$stage"/corelock-*.tar.gz)
tar -xzf "$stage/$archive" -C "$stage"
# PKG-INFO's time is what packaging.mk dates a wheel by that is built from the archive.
tar -C "$stage" --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 \
	--numeric-owner --mode=u=rwX,go=rX -cf - "${archive%.tar.gz}" | gzip -9n >"$stage/archive"
mv "$stage/archive" "dist/$archive"
