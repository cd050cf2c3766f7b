// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Recording: a thread takes cycles out of a ring for each CPU, and writes them to a file as
 * columns. It waits for nothing but time, as a program that woke it would pay for that.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "recfile.h"
#include "rectables.h"
#include "session.h"

#define MAX_BLOCK_CYCLES 65536
/* A recording that is killed lacks what is younger. */
#define BLOCK_AGE_NS 1000000000ULL

/* Of a ring: a fifth of a second at the rate at which one CPU can do nothing but lock. */
#define RING_BYTES (4 << 20)
#define MIN_RING_BYTES (256 << 10)
#define ALL_RINGS_BYTES (128 << 20)

/* Between two looks at the rings, while there is something in them and while there is not. */
#define BUSY_MS 5
#define IDLE_MS 50

#define LONG_NS UINT32_MAX

/* What is before the columns. */
struct cycles_head {
	uint64_t base_ns;
	uint64_t first_ns;
	uint64_t last_ns;
	int64_t realtime_offset_ns;
	int64_t boottime_offset_ns;
	uint32_t count;
	uint32_t stacked;
	uint32_t longer;
	uint32_t reserved[3];
};

_Static_assert(sizeof(struct cycles_head) == 64, "as docs/format.md has it");

/* A block in the making. Each column has room for what pads it to a multiple of 8 bytes. */
struct columns {
	uint32_t end[MAX_BLOCK_CYCLES];
	uint32_t wait[MAX_BLOCK_CYCLES];
	uint32_t hold[MAX_BLOCK_CYCLES];
	uint32_t row[MAX_BLOCK_CYCLES];
	uint8_t kind[MAX_BLOCK_CYCLES];
	uint32_t stacked_index[MAX_BLOCK_CYCLES];
	uint32_t wait_stack[MAX_BLOCK_CYCLES];
	uint32_t hold_stack[MAX_BLOCK_CYCLES + 1];
	uint64_t long_wait[MAX_BLOCK_CYCLES];
	uint64_t long_hold[MAX_BLOCK_CYCLES];
	uint32_t long_index[MAX_BLOCK_CYCLES + 1];
};

#define CYCLE_BYTES (4 * sizeof(uint32_t) + 1)
#define STACKED_BYTES (3 * sizeof(uint32_t))
#define LONG_BYTES (2 * sizeof(uint64_t) + sizeof(uint32_t))

struct recorder {
	corelock_session *session;
	struct ring_buffer *rings;
	struct recfile file;
	struct rectables tables;
	struct cycles_head head;
	struct columns *columns;
	uint64_t begun_ns;  /* of the block */
	uint64_t max_bytes; /* 0: no limit */
	struct corelock_recording status;
	pthread_t thread;
	int stop_fd;  /* written to: the thread is to end */
	int ended_fd; /* readable: it has ended the recording by itself */
	bool begun;   /* the file is ours to write */
	bool running; /* the thread */
	bool ended;   /* corelock_record_end was there */
};

static int64_t clock_offset(clockid_t clock)
{
	struct timespec there;
	uint64_t here = now_ns();

	clock_gettime(clock, &there);
	return there.tv_sec * 1000000000LL + there.tv_nsec - (int64_t)here;
}

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

static uint64_t block_bytes(const struct cycles_head *head)
{
	return BLOCK_HEAD_BYTES + sizeof(*head) + head->count * CYCLE_BYTES +
	       head->stacked * STACKED_BYTES + head->longer * LONG_BYTES + 3 * BLOCK_ALIGN;
}

static int write_cycles(struct recorder *recorder)
{
	struct cycles_head *head = &recorder->head;
	struct columns *columns = recorder->columns;
	uint32_t count = head->count, stacked = head->stacked, longer = head->longer;
	uint32_t kind_bytes = (count + BLOCK_ALIGN - 1) & ~(BLOCK_ALIGN - 1);
	struct iovec parts[] = {
		{head, sizeof(*head)},
		{columns->end, count * sizeof(uint32_t)},
		{columns->wait, count * sizeof(uint32_t)},
		{columns->hold, count * sizeof(uint32_t)},
		{columns->row, count * sizeof(uint32_t)},
		{columns->kind, kind_bytes},
		{columns->stacked_index, stacked * sizeof(uint32_t)},
		{columns->wait_stack, stacked * sizeof(uint32_t)},
		{columns->hold_stack, (stacked + stacked % 2) * sizeof(uint32_t)},
		{columns->long_wait, longer * sizeof(uint64_t)},
		{columns->long_hold, longer * sizeof(uint64_t)},
		{columns->long_index, (longer + longer % 2) * sizeof(uint32_t)},
	};

	memset(columns->kind + count, 0, kind_bytes - count);
	columns->hold_stack[stacked] = 0;
	columns->long_index[longer] = 0;
	head->realtime_offset_ns = clock_offset(CLOCK_REALTIME);
	head->boottime_offset_ns = clock_offset(CLOCK_BOOTTIME);
	return recfile_block(&recorder->file, CORELOCK_BLOCK_CYCLES, parts,
			     sizeof(parts) / sizeof(parts[0]), true);
}

/* Writes the block, after whatever its cycles name. */
static void flush(struct recorder *recorder)
{
	struct corelock_recording *status = &recorder->status;
	uint32_t count = recorder->head.count;
	int error;

	if (!count)
		return;
	error = rectables_write(&recorder->tables, recorder->session, &recorder->file, false);
	if (!error)
		error = write_cycles(recorder);
	recorder->head = (struct cycles_head){};
	if (error) {
		__atomic_fetch_add(&status->not_written, count, __ATOMIC_RELAXED);
		end_early(recorder, error);
		return;
	}
	__atomic_fetch_add(&status->cycles, count, __ATOMIC_RELAXED);
}

static void begin_block(struct recorder *recorder, uint64_t end_ns)
{
	struct cycles_head *head = &recorder->head;

	/* So that cycles of other CPUs, from before this one, fit in, too. */
	head->base_ns = end_ns > LONG_NS / 2 ? end_ns - LONG_NS / 2 : 0;
	head->first_ns = head->last_ns = end_ns;
	recorder->begun_ns = now_ns();
}

static void add_cycle(struct recorder *recorder, const struct corelock_cycle *cycle)
{
	struct cycles_head *head = &recorder->head;
	struct columns *columns = recorder->columns;
	uint32_t at = head->count++;

	columns->end[at] = cycle->end_ns - head->base_ns;
	columns->wait[at] = cycle->wait_ns < LONG_NS ? cycle->wait_ns : LONG_NS;
	columns->hold[at] = cycle->hold_ns < LONG_NS ? cycle->hold_ns : LONG_NS;
	columns->row[at] = cycle->row;
	columns->kind[at] = cycle->kind;
	if (cycle->wait_ns >= LONG_NS || cycle->hold_ns >= LONG_NS) {
		columns->long_wait[head->longer] = cycle->wait_ns;
		columns->long_hold[head->longer] = cycle->hold_ns;
		columns->long_index[head->longer++] = at;
	}
	if (cycle->wait_stack || cycle->hold_stack) {
		columns->wait_stack[head->stacked] = cycle->wait_stack;
		columns->hold_stack[head->stacked] = cycle->hold_stack;
		columns->stacked_index[head->stacked++] = at;
	}
	if (cycle->end_ns < head->first_ns)
		head->first_ns = cycle->end_ns;
	if (cycle->end_ns > head->last_ns)
		head->last_ns = cycle->end_ns;
}

static bool fits_block(const struct cycles_head *head, uint64_t end_ns)
{
	return head->count < MAX_BLOCK_CYCLES && end_ns >= head->base_ns &&
	       end_ns - head->base_ns <= UINT32_MAX;
}

static bool fits_file(const struct recorder *recorder)
{
	return !recorder->max_bytes || recorder->file.bytes + block_bytes(&recorder->head) +
						       CYCLE_BYTES + STACKED_BYTES + LONG_BYTES <=
					       recorder->max_bytes;
}

static int take_cycle(void *context, void *data, size_t size)
{
	struct recorder *recorder = context;
	const struct corelock_cycle *cycle = data;

	if (size < sizeof(*cycle))
		return 0;
	if (recorder->head.count && !fits_block(&recorder->head, cycle->end_ns))
		flush(recorder);
	if (!has_ended(recorder) && !fits_file(recorder)) {
		flush(recorder);
		end_early(recorder, 0);
	}
	if (has_ended(recorder)) {
		__atomic_fetch_add(&recorder->status.not_written, 1, __ATOMIC_RELAXED);
		return 0;
	}
	if (!recorder->head.count)
		begin_block(recorder, cycle->end_ns);
	add_cycle(recorder, cycle);
	return 0;
}

/* How many cycles there were. */
static int take_cycles(struct recorder *recorder)
{
	int taken = ring_buffer__consume(recorder->rings);

	if (recorder->head.count && now_ns() - recorder->begun_ns >= BLOCK_AGE_NS)
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
	recorder->columns = malloc(sizeof(*recorder->columns));
	recorder->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	recorder->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!recorder->columns || recorder->stop_fd < 0 || recorder->ended_fd < 0)
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
	free(recorder->columns);
	free(recorder);
	session->recorder = NULL;
}
