// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The portable corelock: CPython with the extension modules, libcorelock and all libraries
 * but glibc inside, and behind them a zip of everything that is written in Python, which is
 * imported from where it lies. Nothing is ever unpacked.
 */
#include <Python.h>

PyMODINIT_FUNC PyInit__cffi_backend(void);
PyMODINIT_FUNC PyInit_pydemumble(void);

/* The file that runs, wherever it was called from, and even if it is deleted meanwhile. */
#define ITSELF "/proc/self/exe"

static PyStatus start(int argc, char **argv)
{
	PyPreConfig before;
	PyConfig config;
	PyStatus status;

	/* Isolated: what the environment or the working directory say to Python is for others. */
	PyPreConfig_InitIsolatedConfig(&before);
	before.utf8_mode = 1;
	status = Py_PreInitialize(&before);
	if (PyStatus_Exception(status))
		return status;

	PyConfig_InitIsolatedConfig(&config);
	config.site_import = 0;
	config.write_bytecode = 0;
	config.install_signal_handlers = 1;
	config.pathconfig_warnings = 0;
	config.module_search_paths_set = 1;
	status = PyWideStringList_Append(&config.module_search_paths, L"" ITSELF);
	/* Tells corelock._ffi that the library is part of this program. */
	if (!PyStatus_Exception(status))
		status = PyWideStringList_Append(&config.xoptions, L"corelock-library=inside");
	if (!PyStatus_Exception(status))
		status = PyConfig_SetString(&config, &config.executable, L"" ITSELF);
	if (!PyStatus_Exception(status))
		status = PyConfig_SetString(&config, &config.run_command,
					    L"try:\n"
					    L"    from corelock.__main__ import main\n"
					    L"except KeyboardInterrupt:\n"
					    L"    raise SystemExit(130) from None\n"
					    L"main()\n");
	if (!PyStatus_Exception(status))
		status = PyConfig_SetBytesArgv(&config, argc, argv);
	if (!PyStatus_Exception(status))
		status = Py_InitializeFromConfig(&config);
	PyConfig_Clear(&config);
	return status;
}

int main(int argc, char **argv)
{
	if (access(ITSELF, R_OK)) {
		fprintf(stderr,
			"corelock: cannot read %s: %m\n"
			"  Mount /proc (mount -t proc proc /proc), and make the file readable.\n",
			ITSELF);
		return 1;
	}
	PyImport_AppendInittab("_cffi_backend", PyInit__cffi_backend);
	PyImport_AppendInittab("pydemumble.pydemumble", PyInit_pydemumble);

	PyStatus status = start(argc, argv);
	if (PyStatus_Exception(status)) {
		fprintf(stderr,
			"corelock: cannot start: %s\n"
			"  The file may have been cut short: copy it again.\n",
			status.err_msg ? status.err_msg : "no reason given");
		return 1;
	}
	return Py_RunMain();
}
