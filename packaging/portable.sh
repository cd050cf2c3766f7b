#!/bin/sh
# portable.sh ARCH: makes dist/corelock-ARCH of the program that compile.sh has made, what
# the package needs of Python, and the package.
set -eu
cd "$(dirname "$0")/.."

ARCH=$1
PYTHON=${PYTHON:-python3}
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/corelock-build
ROOT=$CACHE/userland
inside=$ROOT/build/$(uname -m)/python/python

stage=build/$ARCH/portable
rm -rf "$stage"
mkdir -p "$stage/site" "$stage/corelock" dist
"$PYTHON" -m pip install -qq --no-deps --no-compile --only-binary :all: --require-hashes \
	--target "$stage/site" -r packaging/site.txt >"build/$ARCH/portable.log" 2>&1 || {
	echo "corelock: pip cannot fetch packaging/site.txt: $(tail -n 1 "build/$ARCH/portable.log")" >&2
	exit 1
}
# Scripts, with this folder's path: nobody calls them.
rm -rf "$stage/site/bin"
cp -R corelock "$stage/corelock/"
# pydemumble's extension is in the program; this is all the rest of it.
mkdir -p "$stage/site/pydemumble"
echo "from .pydemumble import demangle" >"$stage/site/pydemumble/__init__.py"
cat "$stage"/site/*.dist-info/licenses/* "$stage"/site/*.dist-info/LICENSE* \
	2>/dev/null >"$stage/python-packages" || true
cp "build/$ARCH/program.licenses" "$stage/parts"

# Sets must be written in one order.
PYTHONHASHSEED=0 "$inside" packaging/append_python.py "build/$ARCH/program" \
	"$stage/corelock-$ARCH" --epoch "$SOURCE_DATE_EPOCH" \
	--modules "$ROOT/build/python/Lib" "$stage/site" "$stage/corelock" \
	--licenses LICENSES/* "$stage/parts" "$stage/python-packages"

# What the package imports must be there, but for what is an extra's. Two modules are in the
# program, not in this Python.
"$inside" -I -S - "$stage/corelock-$ARCH" <<'END' || {
import sys, types, zipfile
archive = sys.argv[1]
sys.path[:] = [archive]
sys.modules["_cffi_backend"] = types.ModuleType("_cffi_backend")
sys.modules["_cffi_backend"].FFI = lambda *_, **__: None
from corelock.extras import MissingExtra
extras = {
    "google", "jinja2", "numpy", "opentelemetry", "perfetto", "prometheus_client", "pyarrow",
    "pytest", "textual",
}
for name in zipfile.ZipFile(archive).namelist():
    if name.startswith("corelock/") and name.endswith(".pyc"):
        try:
            __import__(name[: -len(".pyc")].replace("/", ".").removesuffix(".__init__"))
        except MissingExtra:
            pass
        except ModuleNotFoundError as error:
            if error.name.partition(".")[0] not in extras:
                raise
END
	echo "corelock: the file lacks a module (packaging/python-modules, append_python.py)" >&2
	exit 1
}
mv "$stage/corelock-$ARCH" dist/
