"""What pyproject.toml has no words for: a wheel has a library inside, but no Python ABI."""

from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel


class PlatformWheel(bdist_wheel):
    def run(self) -> None:
        if not Path("corelock/libcorelock.so").exists():
            raise SystemExit("corelock: corelock/libcorelock.so is not built\n  Run make first.")
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


class WithLibrary(Distribution):
    def has_ext_modules(self) -> bool:
        return True


setup(cmdclass={"bdist_wheel": PlatformWheel}, distclass=WithLibrary)
