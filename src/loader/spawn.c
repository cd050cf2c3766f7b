// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Starting a command and holding it at its first instruction. ptrace stops a
 * child in exec after its new mm is in place, so nothing of this process's
 * image is measured and nothing of the command's is missed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "session.h"

/* Only async-signal-safe calls: the parent may have threads. */
static void run_child(char *const *argv, int report)
{
	sigset_t none;
	int error;

	/* Python ignores these two; a command expects the defaults. */
	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (!ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		execvp(argv[0], argv);
	error = errno;
	if (write(report, &error, sizeof(error)) < 0)
		_exit(126);
	_exit(127);
}

static int wait_child(pid_t pid, int *status)
{
	pid_t got;

	do
		got = waitpid(pid, status, 0);
	while (got < 0 && errno == EINTR);
	return got < 0 ? -1 : 0;
}

/* Waits for the stop in exec, passing on signals that come before it. */
static bool stopped_in_exec(pid_t pid)
{
	int status;

	while (!wait_child(pid, &status) && WIFSTOPPED(status)) {
		if (WSTOPSIG(status) == SIGTRAP)
			return true;
		ptrace(PTRACE_CONT, pid, NULL, WSTOPSIG(status));
	}
	return false;
}

static int fail_command(corelock_session *session, const char *command, int error)
{
	const char *remedy = "";

	if (error == ENOENT)
		remedy = "Check its name and PATH.";
	else if (error == EACCES || error == ENOEXEC)
		remedy = "It must be an executable file.";
	else if (error == EPERM)
		remedy = "ptrace seems to be forbidden here: start it yourself and use --pid.";
	return session_fail(session, CORELOCK_E_COMMAND, error, remedy, "cannot start %s", command);
}

CORELOCK_EXPORT int corelock_spawn(corelock_session *session, char *const *argv, int32_t *pid)
{
	int report[2], error = 0;
	ssize_t got;
	pid_t child;

	if (pipe2(report, O_CLOEXEC))
		return fail_command(session, argv[0], errno);
	child = fork();
	if (!child)
		run_child(argv, report[1]);
	error = child < 0 ? errno : 0;
	close(report[1]);
	if (!error && !stopped_in_exec(child)) {
		do
			got = read(report[0], &error, sizeof(error));
		while (got < 0 && errno == EINTR);
		if (got != sizeof(error))
			error = ECHILD;
	}
	close(report[0]);
	if (error)
		return fail_command(session, argv[0], error);
	*pid = child;
	return 0;
}

CORELOCK_EXPORT int corelock_abandon(corelock_session *session, int32_t pid)
{
	int status;

	if (!kill(pid, SIGKILL) && !wait_child(pid, &status))
		return 0;
	return session_fail(session, CORELOCK_E_SYSTEM, errno, "", "cannot end the command");
}

CORELOCK_EXPORT int corelock_resume(corelock_session *session, int32_t pid)
{
	if (!ptrace(PTRACE_DETACH, pid, NULL, NULL))
		return 0;
	return session_fail(session, CORELOCK_E_SYSTEM, errno, "", "cannot let the command go on");
}
