/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * lock_chain MODE CHAIN: a lock held for as long as wanted, and waiters that come one by one.
 *
 * "ready" names the target and the thread that will hold its mmap_lock in
 * MODE (write or read); "done" says that it does. Each further line lets the
 * next thread of CHAIN, such as wrw, ask for the lock for writing or reading.
 * The end of the input lets go of all.
 *
 * The lock is held for as long as a FUSE file system does not answer, which is
 * this program's first process: no time is involved. For writing, the holder maps
 * a file that bypasses the page cache, and FUSE first writes back what another
 * open of it left dirty there. For reading, it reads /proc/self/mem where a page
 * of the file is not in memory: the fault on another's behalf keeps the lock.
 */
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PAGE 4096
#define MAX_CHAIN 16

static const char *chain;
static int go_pipe[MAX_CHAIN + 1][2], tid_pipe[2], held_pipe[2];
static int fuse;
static size_t asked; /* of the chain */
static atomic_int letting_go;
static char *shared, *anonymous; /* mappings: of the file, of nothing */
static pthread_barrier_t all_warm;
static int direct, memory;
static int hold_for_read;

static void pass_on(int fd, const void *data, size_t size)
{
	workload_check(write(fd, data, size) == (ssize_t)size, "write");
}

static void receive(int fd, void *data, size_t size)
{
	if (read(fd, data, size) != (ssize_t)size)
		_exit(1);
}

/* When it is told to, the thread with this number in the chain asks for the lock, and waits. */
static void ask(long at, char *page)
{
	unsigned char resident;
	char c;

	receive(go_pipe[at + 1][0], &c, 1);
	if (chain[at] == 'w')
		workload_check(!mprotect(page, PAGE, PROT_READ), "mprotect");
	else
		workload_check(!mincore(page, PAGE, &resident), "mincore");
}

/*
 * All that a thread does later it does once before, so that its pages of code and stack are in
 * memory: a fault there takes the lock for reading, and would make it the last reader that came.
 */
static void rehearse(long at)
{
	char *page = workload_map(PAGE);

	pass_on(go_pipe[at + 1][1], "g", 1);
	ask(at, page);
	workload_unmap(page, PAGE);
}

static void *hold(void *unused)
{
	pid_t tid = syscall(SYS_gettid);
	char c;

	prctl(PR_SET_NAME, "chain-holder");
	workload_check(pread(memory, &c, 1, (off_t)&tid) == 1, "/proc/self/mem");
	pthread_barrier_wait(&all_warm);
	pass_on(tid_pipe[1], &tid, sizeof(tid));
	receive(go_pipe[0][0], &c, 1);
	if (hold_for_read) {
		workload_check(pread(memory, &c, 1, (off_t)shared) == 1, "/proc/self/mem");
		return unused;
	}
	/* Not earlier: the kernel would have written it back by now. */
	*shared = 1;
	workload_check(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, direct, 0) != MAP_FAILED, "mmap");
	return unused;
}

static void *queue_up(void *number)
{
	long at = (long)number;
	char name[32];

	snprintf(name, sizeof(name), "chain-%ld", at + 1);
	prctl(PR_SET_NAME, name);
	rehearse(at);
	pthread_barrier_wait(&all_warm);
	ask(at, anonymous);
	return NULL;
}

static void run_target(const char *path)
{
	pthread_t threads[MAX_CHAIN + 1];
	struct stat status;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	/* Or the file system would outlive its process, and this one wait for ever. */
	close(fuse);
	fd = open(path, O_RDWR | O_CLOEXEC);
	direct = open(path, O_RDONLY | O_CLOEXEC);
	workload_check(fd >= 0 && direct >= 0, path);
	memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	workload_check(memory >= 0, "/proc/self/mem");
	/* Until it is asked, the kernel takes the file for empty. */
	workload_check(!fstat(fd, &status), "fstat");
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	workload_check(shared != MAP_FAILED, "mmap");
	anonymous = workload_map(PAGE);
	pthread_barrier_init(&all_warm, NULL, strlen(chain) + 1);
	for (size_t at = 0; at < strlen(chain); at++)
		workload_check(!pthread_create(&threads[at + 1], NULL, queue_up, (void *)at),
			       "pthread_create");
	workload_check(!pthread_create(&threads[0], NULL, hold, NULL), "pthread_create");
	for (size_t at = 0; at <= strlen(chain); at++)
		pthread_join(threads[at], NULL);
	_exit(0);
}

static void answer(uint64_t unique, int error, const void *data, size_t size)
{
	char message[sizeof(struct fuse_out_header) + PAGE];
	struct fuse_out_header header = {
		.len = sizeof(header) + size, .error = error, .unique = unique};

	memcpy(message, &header, sizeof(header));
	memcpy(message + sizeof(header), data, size);
	/* Of a request that the kernel has given up it knows nothing any more. */
	workload_check(write(fuse, message, header.len) == (ssize_t)header.len || errno == ENOENT,
		       "/dev/fuse");
}

static void answer_transfer(uint64_t unique, int is_read)
{
	struct fuse_write_out written = {.size = PAGE};
	static const char page[PAGE];

	if (is_read)
		answer(unique, 0, page, sizeof(page));
	else
		answer(unique, 0, &written, sizeof(written));
}

/*
 * The root is a regular file of one page. What holds the lock, the request to read
 * or to write that page, is left for main.
 */
static void *serve(void *unused)
{
	static char request[FUSE_MIN_READ_BUFFER + (1 << 20)];
	const struct fuse_in_header *header = (void *)request;
	const struct fuse_open_in *open = (void *)(header + 1);
	uint32_t held_opcode = hold_for_read ? FUSE_READ : FUSE_WRITE;
	struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = PAGE};
	struct fuse_attr_out attr = {.attr = {.ino = FUSE_ROOT_ID,
					      .size = PAGE,
					      .mode = S_IFREG | 0600,
					      .nlink = 1,
					      .blksize = PAGE}};
	struct fuse_open_out opened = {};

	while (read(fuse, request, sizeof(request)) > 0) {
		switch (header->opcode) {
		case FUSE_INIT:
			answer(header->unique, 0, &init, sizeof(init));
			break;
		case FUSE_GETATTR:
		case FUSE_SETATTR:
			answer(header->unique, 0, &attr, sizeof(attr));
			break;
		case FUSE_OPEN:
			opened.open_flags =
				(open->flags & O_ACCMODE) == O_RDONLY ? FOPEN_DIRECT_IO : 0;
			answer(header->unique, 0, &opened, sizeof(opened));
			break;
		case FUSE_READ:
		case FUSE_WRITE:
			if (letting_go || header->opcode != held_opcode)
				answer_transfer(header->unique, header->opcode == FUSE_READ);
			else
				pass_on(held_pipe[1], &header->unique, sizeof(header->unique));
			break;
		case FUSE_FLUSH:
		case FUSE_FSYNC:
		case FUSE_RELEASE:
			answer(header->unique, 0, NULL, 0);
			break;
		case FUSE_FORGET:
		case FUSE_INTERRUPT:
			break;
		default:
			answer(header->unique, -ENOSYS, NULL, 0);
		}
	}
	return unused;
}

/* A mount of our own, which ends with us. */
static void mount_file(const char *path)
{
	char options[96];

	fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	workload_check(fuse >= 0, "/dev/fuse");
	workload_check(!unshare(CLONE_NEWNS), "unshare");
	workload_check(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount /");
	snprintf(options, sizeof(options), "fd=%d,rootmode=100600,user_id=0,group_id=0", fuse);
	workload_check(!mount("lock_chain", path, "fuse", 0, options), "mount");
}

static void let_next_ask(void)
{
	workload_check(asked < strlen(chain), "no more in the chain");
	pass_on(go_pipe[++asked][1], "g", 1);
}

int main(int argc, char **argv)
{
	char path[] = "/tmp/lock_chain.XXXXXX", c;
	pid_t target, holder;
	pthread_t server;
	uint64_t held;
	int status;

	hold_for_read = argc > 1 && !strcmp(argv[1], "read");
	chain = argc > 2 ? argv[2] : "";
	workload_check(strlen(chain) <= MAX_CHAIN, "chain");
	for (size_t at = 0; at <= strlen(chain); at++)
		workload_check(!pipe(go_pipe[at]), "pipe");
	workload_check(!pipe(tid_pipe) && !pipe(held_pipe), "pipe");
	close(mkstemp(path));
	mount_file(path);
	target = fork();
	workload_check(target >= 0, "fork");
	if (!target)
		run_target(path);
	close(tid_pipe[1]);
	workload_check(!pthread_create(&server, NULL, serve, NULL), "pthread_create");
	receive(tid_pipe[0], &holder, sizeof(holder));
	/* The target has it open: that is all it needs. */
	umount2(path, MNT_DETACH);
	unlink(path);
	workload_ready(target, holder);
	pass_on(go_pipe[0][1], "g", 1);
	receive(held_pipe[0], &held, sizeof(held));
	workload_say("done\n");
	while (read(STDIN_FILENO, &c, 1) == 1)
		if (c == '\n')
			let_next_ask();
	letting_go = 1;
	answer_transfer(held, hold_for_read);
	while (asked < strlen(chain))
		let_next_ask();
	workload_check(waitpid(target, &status, 0) == target && !status, "target");
	return 0;
}
