#!/bin/sh
# Makes sure that the system packages named as arguments are there: installs
# what is missing with apt, or names it where there is no apt.
set -eu

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
	echo "corelock: no apt here; if the build fails, install what these Debian packages hold:" >&2
	echo "  $*" >&2
	exit 0
fi

missing=
for package in "$@"; do
	state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "corelock: these packages are missing; run as root, or: apt-get install$missing" >&2
	exit 1
fi
echo "corelock: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# The lists may be missing on a fresh machine, or too old to be of use.
apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 ||
	{ apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null; }
