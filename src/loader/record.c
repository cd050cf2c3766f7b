// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Recording: a thread takes cycles out of a ring for each CPU, and writes them to a file. It waits
 * for nothing but time, as a program that woke it would pay for that.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "reccycles.h"
#include "recfile.h"
#include "rectables.h"
#include "session.h"

/* A recording that is killed lacks what is younger. */
#define BLOCK_AGE_NS 1000000000ULL

/* Of a ring: a fifth of a second at the rate at which one CPU can do nothing but lock. */
#define RING_BYTES (4 << 20)
#define MIN_RING_BYTES (256 << 10)
#define ALL_RINGS_BYTES (128 << 20)

/* Between two looks at the rings, while there is something in them and while there is not. */
#define BUSY_MS 5
#define IDLE_MS 50

struct recorder {
	corelock_session *session;
	struct ring_buffer *rings;
	struct recfile file;
	struct rectables tables;
	struct cycles *cycles; /* the block in the making */
	struct cycles *part;   /* of it, where there is no room for the whole */
	uint64_t max_bytes;    /* 0: no limit */
	struct corelock_recording status;
	pthread_t thread;
	int stop_fd;  /* written to: the thread is to end */
	int ended_fd; /* readable: it has ended the recording by itself */
	bool begun;   /* the file is ours to write */
	bool running; /* the thread */
	bool ended;   /* corelock_record_end was there */
};

static bool has_ended(const struct recorder *recorder)
{
	return __atomic_load_n(&recorder->status.ended_ns, __ATOMIC_RELAXED);
}

/* Ends the counting, here and now: what came after could not be written. */
static void end_early(struct recorder *recorder, int sys_errno)
{
	uint64_t one = 1;
	ssize_t ignored;

	if (has_ended(recorder))
		return;
	__atomic_store_n(&recorder->session->skel->data->hot.tracing, 0, __ATOMIC_SEQ_CST);
	recorder->status.sys_errno = sys_errno;
	recorder->status.full = !sys_errno;
	__atomic_store_n(&recorder->status.ended_ns, now_ns(), __ATOMIC_RELEASE);
	ignored = write(recorder->ended_fd, &one, sizeof(one));
	(void)ignored;
}

/* Writes cycles in smaller and smaller parts, as long as one has room. Returns 0 or an errno. */
static int write_smaller(struct recorder *recorder, int error, uint32_t *written)
{
	uint32_t count = cycles_count(recorder->cycles), size = count / 2;

	while (size && *written < count) {
		if (size > count - *written)
			size = count - *written;
		cycles_copy(recorder->part, recorder->cycles, *written, size);
		error = cycles_write(recorder->part, &recorder->file);
		if (!error)
			*written += size;
		else if (recorder->file.takes_less)
			size /= 2;
		else
			break;
	}
	return error;
}

/* The block, after whatever its cycles name; and how many of these were written. */
static int write_cycles(struct recorder *recorder, uint32_t *written)
{
	int error;

	*written = 0;
	error = rectables_write(&recorder->tables, recorder->session, &recorder->file, false);
	if (error)
		return error;
	error = cycles_write(recorder->cycles, &recorder->file);
	if (!error)
		*written = cycles_count(recorder->cycles);
	return recorder->file.takes_less ? write_smaller(recorder, error, written) : error;
}

static void flush(struct recorder *recorder)
{
	struct corelock_recording *status = &recorder->status;
	uint32_t written, not_written;
	int error;

	if (!cycles_count(recorder->cycles))
		return;
	error = write_cycles(recorder, &written);
	not_written = cycles_ended(recorder->cycles, written);
	cycles_clear(recorder->cycles);
	__atomic_fetch_add(&status->cycles, written, __ATOMIC_RELAXED);
	__atomic_fetch_add(&status->not_written, not_written, __ATOMIC_RELAXED);
	if (error)
		end_early(recorder, error);
}

static bool fits_file(const struct recorder *recorder)
{
	return !recorder->max_bytes ||
	       recorder->file.bytes + cycles_bytes(recorder->cycles) <= recorder->max_bytes;
}

static int take_cycle(void *context, void *data, size_t size)
{
	struct recorder *recorder = context;
	const struct corelock_cycle *cycle = data;

	if (size < sizeof(*cycle))
		return 0;
	if (!cycles_fit(recorder->cycles, cycle))
		flush(recorder);
	if (!has_ended(recorder) && !fits_file(recorder)) {
		flush(recorder);
		end_early(recorder, 0);
	}
	if (has_ended(recorder)) {
		/* What has not ended is in no total. */
		if (cycle_has_ended(cycle->kind))
			__atomic_fetch_add(&recorder->status.not_written, 1, __ATOMIC_RELAXED);
		return 0;
	}
	cycles_add(recorder->cycles, cycle);
	return 0;
}

/* How many cycles there were. */
static int take_cycles(struct recorder *recorder)
{
	int taken = ring_buffer__consume(recorder->rings);

	if (cycles_age_ns(recorder->cycles) >= BLOCK_AGE_NS)
		flush(recorder);
	return taken;
}

static void *record(void *context)
{
	struct recorder *recorder = context;
	struct pollfd stop = {.fd = recorder->stop_fd, .events = POLLIN};
	int wait_ms = BUSY_MS;

	while (poll(&stop, 1, wait_ms) <= 0)
		wait_ms = take_cycles(recorder) > 0 ? BUSY_MS : IDLE_MS;
	return NULL;
}

static bool cpu_is_present(uint32_t cpu)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u", cpu);
	/* Without /sys nothing is known. */
	return !access(path, F_OK) || access("/sys/devices/system/cpu/cpu0", F_OK);
}

static uint32_t ring_bytes(const corelock_session *session, uint32_t cpus)
{
	uint32_t wanted = session->options.cycle_ring_bytes, bytes = RING_BYTES;

	if (wanted)
		bytes = wanted;
	else
		while (bytes > MIN_RING_BYTES && bytes > ALL_RINGS_BYTES / cpus)
			bytes /= 2;
	return power_of_two(bytes);
}

uint32_t record_cpus(const corelock_session *session)
{
	int cpus = session->options.record ? libbpf_num_possible_cpus() : 1;

	return cpus > 0 ? cpus : 1;
}

static int add_ring(struct recorder *recorder, uint32_t cpu, uint32_t bytes)
{
	const struct bpf_map *rings = recorder->session->skel->maps.cycle_rings;
	int fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "cycles", 0, 0, bytes, NULL), error = 0;

	if (fd < 0)
		return errno;
	if (bpf_map_update_elem(bpf_map__fd(rings), &cpu, &fd, BPF_ANY))
		error = errno;
	else if (!recorder->rings)
		recorder->rings = ring_buffer__new(fd, take_cycle, recorder, NULL);
	else
		error = -ring_buffer__add(recorder->rings, fd, take_cycle, recorder);
	if (!recorder->rings)
		error = errno;
	/* The map, and what is mapped, keep it. */
	close(fd);
	return error;
}

static int add_rings(struct recorder *recorder)
{
	uint32_t cpus = record_cpus(recorder->session), present = 0;
	int error = 0;

	for (uint32_t cpu = 0; cpu < cpus; cpu++)
		present += cpu_is_present(cpu);
	for (uint32_t cpu = 0; cpu < cpus && !error; cpu++)
		if (cpu_is_present(cpu))
			error = add_ring(recorder, cpu, ring_bytes(recorder->session, present));
	return error;
}

int record_open(corelock_session *session)
{
	struct recorder *recorder;
	int error;

	if (!session->options.record)
		return 0;
	recorder = session->recorder = calloc(1, sizeof(*recorder));
	if (!recorder)
		return session_fail(session, CORELOCK_E_SYSTEM, ENOMEM, "", "cannot record");
	recorder->session = session;
	recorder->cycles = cycles_new();
	recorder->part = cycles_new();
	recorder->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	recorder->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!recorder->cycles || !recorder->part || recorder->stop_fd < 0 || recorder->ended_fd < 0)
		return session_fail(session, CORELOCK_E_SYSTEM, errno, "", "cannot record");
	error = add_rings(recorder);
	if (error)
		return session_fail(session, CORELOCK_E_SYSTEM, error, "Ask for smaller rings.",
				    "cannot make the rings for cycles");
	return 0;
}

uint64_t record_ended_ns(const corelock_session *session)
{
	const struct recorder *recorder = session->recorder;

	return recorder ? __atomic_load_n(&recorder->status.ended_ns, __ATOMIC_ACQUIRE) : 0;
}

static int start_thread(struct recorder *recorder)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&recorder->thread, NULL, record, recorder);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	recorder->running = !error;
	return error;
}

static void stop_thread(struct recorder *recorder)
{
	uint64_t one = 1;
	ssize_t ignored;

	/* A fork has the memory, and not the thread. */
	if (!recorder->running || recorder->session->owner != getpid())
		return;
	ignored = write(recorder->stop_fd, &one, sizeof(one));
	(void)ignored;
	pthread_join(recorder->thread, NULL);
	recorder->running = false;
}

CORELOCK_EXPORT int corelock_record_begin(corelock_session *session, int32_t fd, uint64_t max_bytes,
					  const void *header, uint64_t header_bytes)
{
	struct recorder *recorder = session->recorder;
	struct iovec part = {(void *)header, header_bytes};
	int error;

	if (!recorder || !session->attached || recorder->begun)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "recording begins once, after attach, with the option record");
	recorder->max_bytes = max_bytes;
	error = recfile_begin(&recorder->file, fd);
	recorder->begun = !error;
	if (!error)
		error = recfile_block(&recorder->file, CORELOCK_BLOCK_HEADER, &part, 1, true);
	if (!error)
		error = start_thread(recorder);
	if (error)
		return session_fail(session, CORELOCK_E_SYSTEM, error,
				    "Make room there, or name another file.",
				    "cannot begin the recording");
	return 0;
}

CORELOCK_EXPORT int corelock_record_block(corelock_session *session, uint32_t type,
					  const void *payload, uint64_t bytes)
{
	struct recorder *recorder = session->recorder;
	struct iovec part = {(void *)payload, bytes};
	int error;

	if (!recorder || !recorder->begun || session->owner != getpid())
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "", "nothing is recorded");
	error = recfile_block(&recorder->file, type, &part, 1, false);
	if (error)
		return session_fail(session, CORELOCK_E_SYSTEM, error, "Make room there.",
				    "cannot write the recording");
	return 0;
}

CORELOCK_EXPORT int corelock_record_fd(corelock_session *session)
{
	if (!session->recorder)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "", "nothing is recorded");
	return session->recorder->ended_fd;
}

CORELOCK_EXPORT void corelock_record_status(corelock_session *session,
					    struct corelock_recording *status)
{
	const struct recorder *recorder = session->recorder;

	memset(status, 0, sizeof(*status));
	if (!recorder)
		return;
	status->ended_ns = record_ended_ns(session);
	status->bytes = recorder->file.bytes;
	status->cycles = __atomic_load_n(&recorder->status.cycles, __ATOMIC_RELAXED);
	status->not_written = __atomic_load_n(&recorder->status.not_written, __ATOMIC_RELAXED);
	status->sys_errno = recorder->status.sys_errno;
	status->full = recorder->status.full;
}

CORELOCK_EXPORT int corelock_record_end(corelock_session *session)
{
	struct recorder *recorder = session->recorder;
	int error;

	if (!recorder || !recorder->begun || session->attached || session->owner != getpid())
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "recording ends after detach, in the process that began it");
	if (recorder->ended)
		return 0;
	recorder->ended = true;
	stop_thread(recorder);
	take_cycles(recorder);
	flush(recorder);
	/* Of who was renamed, the last name counts. */
	error = rectables_write(&recorder->tables, session, &recorder->file, true);
	if (error)
		end_early(recorder, error);
	return 0;
}

void record_free(corelock_session *session)
{
	struct recorder *recorder = session->recorder;

	if (!recorder)
		return;
	stop_thread(recorder);
	if (recorder->begun && session->owner == getpid())
		recfile_end(&recorder->file);
	ring_buffer__free(recorder->rings);
	rectables_free(&recorder->tables);
	if (recorder->stop_fd >= 0)
		close(recorder->stop_fd);
	if (recorder->ended_fd >= 0)
		close(recorder->ended_fd);
	cycles_free(recorder->cycles);
	cycles_free(recorder->part);
	free(recorder);
	session->recorder = NULL;
}
