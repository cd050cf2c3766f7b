"""corelock on other kernels, booted in emulation: `make vmtest`."""
