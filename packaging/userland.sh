#!/bin/sh
# userland.sh ROOT [ARCH]: makes ROOT an older Debian to compile in, unless it is one.
#
# What is linked there needs no glibc newer than its 2.31. ROOT gets a compiler for ARCH
# (this machine's, if not named) and, below /build, the sources of what is linked in.
# Packages come from the mirror that this machine's apt uses. What has been fetched stays.
# A stamp says what a step has made, and is written last: a step that was cut off, or would
# make something else now, is done again.
set -eu

ROOT=$1
NATIVE=$(uname -m)
ARCH=${2:-$NATIVE}
HERE=$(cd "$(dirname "$0")" && pwd)
PYTHON=${PYTHON:-python3}

SUITE=bullseye # the newest one with glibc 2.31
# The libbpf of the Debian that this is developed on; the Python that has the longest life.
SOURCES="libbpf/bookworm python3.13/trixie"
PACKAGES="gcc g++ make libc6-dev libelf-dev zlib1g-dev libffi-dev dpkg-dev xz-utils patch"

fail() {
	echo "corelock: $1" >&2
	echo "  $2" >&2
	exit 1
}

debian_arch() {
	case $1 in
	x86_64) echo amd64 ;;
	aarch64) echo arm64 ;;
	*) fail "nothing is built for $1" "Choose ARCH=x86_64 or ARCH=aarch64." ;;
	esac
}

[ "$(id -u)" = 0 ] || fail "a userland for chroot can only be made by root" "Run make as root."

target=$(debian_arch "$ARCH")
stamps=$ROOT/build/stamps
is_made() {
	[ "$(cat "$stamps/$1" 2>/dev/null)" = "$2" ]
}
base="$SUITE $PACKAGES"
sources="$SOURCES $(cat "$HERE/sources.txt")"
if is_made base "$base" && is_made "$ARCH" compiler && is_made sources "$sources"; then
	exit 0
fi

sh "$HERE/../tools/packages.sh" debootstrap debian-archive-keyring

find_mirror() {
	release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	apt-get indextargets --format '$(REPO_URI)' \
		'Created-By: Packages' "Release: $release" 'Component: main' | head -n 1
}
mirror=$(find_mirror)
# apt knows its sources only when it has their lists.
[ -n "$mirror" ] || { apt-get update -qq && mirror=$(find_mirror); }
[ -n "$mirror" ] || fail "apt's sources name no mirror of this Debian's main archive" \
	"Build on Debian, with its main archive in apt's sources."

if ! is_made base "$base"; then
	echo "corelock: making a Debian $SUITE in $ROOT (a minute)" >&2
	rm -rf "$ROOT"
	mkdir -p "$ROOT"
	debootstrap --variant=minbase --include="$(echo $PACKAGES | tr ' ' ,)" "$SUITE" "$ROOT" \
		"$mirror" >"$ROOT.log" 2>&1 ||
		fail "debootstrap could not make a Debian $SUITE: $(tail -n 1 "$ROOT.log")" \
			"See $ROOT.log; is $SUITE still on the mirror that apt uses?"
	rm -f "$ROOT"/var/cache/apt/archives/*.deb
	mkdir -p "$stamps"
	echo compiler >"$stamps/$NATIVE"
	echo "$base" >"$stamps/base"
fi

if ! is_made "$ARCH" compiler; then
	echo "corelock: adding a compiler for $ARCH" >&2
	gnu=$(echo "$ARCH" | tr _ -)-linux-gnu
	# As root in there, too: apt's own user may be unable to reach the folder.
	chroot "$ROOT" sh -eu -c "export DEBIAN_FRONTEND=noninteractive
		dpkg --add-architecture $target
		apt-get -q -o APT::Sandbox::User=root update
		apt-get -q -y -o APT::Sandbox::User=root install --no-install-recommends \
			gcc-$gnu g++-$gnu libc6-dev:$target libelf-dev:$target zlib1g-dev:$target \
			libffi-dev:$target" >"$ROOT.log" 2>&1 ||
		fail "no compiler for $ARCH in Debian $SUITE: $(tail -n 1 "$ROOT.log")" "See $ROOT.log."
	rm -f "$ROOT"/var/cache/apt/archives/*.deb
	echo compiler >"$stamps/$ARCH"
fi

if ! is_made sources "$sources"; then
	echo "corelock: fetching sources: $SOURCES" >&2
	# What came of other sources goes with them.
	rm -rf "$ROOT/build/sources" "$ROOT/build/x86_64" "$ROOT/build/aarch64"
	mkdir -p "$ROOT/build/sources/lists/partial"
	cd "$ROOT/build/sources"
	for source in $SOURCES; do
		echo "deb-src $mirror ${source#*/} main"
	done >sources.list
	apt="apt-get -qq -o Dir::Etc::sourcelist=$PWD/sources.list -o Dir::Etc::sourceparts=-
		-o Dir::State::lists=$PWD/lists -o APT::Sandbox::User=root"
	$apt update >"$ROOT.log" 2>&1 ||
		fail "cannot list Debian's sources: $(tail -n 1 "$ROOT.log")" "See $ROOT.log."
	for source in $SOURCES; do
		$apt source --download-only "$source" >"$ROOT.log" 2>&1 ||
			fail "no source package ${source%/*} in Debian ${source#*/}" "See $ROOT.log."
	done
	# Their metadata is not ours to judge: only the files with these hashes are wanted.
	"$PYTHON" -m pip download -qq --no-deps --no-binary :all: --ignore-requires-python \
		--require-hashes -r "$HERE/sources.txt" >"$ROOT.log" 2>&1 ||
		fail "pip cannot fetch the sources of packaging/sources.txt" "See $ROOT.log."
	chroot "$ROOT" sh -eu -c 'cd /build
		rm -rf libbpf python cffi pydemumble
		dpkg-source --no-check -x sources/libbpf_*.dsc libbpf
		dpkg-source --no-check -x sources/python3.*.dsc python
		for name in cffi pydemumble; do
			mkdir $name
			tar -xzf sources/$name-*.tar.gz --strip-components=1 -C $name
		done' >"$ROOT.log" 2>&1 ||
		fail "cannot unpack the sources: $(tail -n 1 "$ROOT.log")" "See $ROOT.log."
	rm -rf lists
	echo "$sources" >"$stamps/sources"
fi
