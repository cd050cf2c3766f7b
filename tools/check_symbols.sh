#!/bin/sh
# The library exports what its symbol map names, versioned, and nothing else.
set -eu
library=$1 map=$2
exported=$(nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | sed 's/@@CORELOCK_1$//' | sort)
named=$(sed -n 's/^\t\(corelock_[a-z_]*\);$/\1/p' "$map" | sort)
[ "$exported" = "$named" ] || {
	echo "exported:" $exported >&2
	echo "versioned:" $named >&2
	exit 1
}
