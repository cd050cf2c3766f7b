/* Chains of calls that end in pause(), each printed before by backtrace(3).
 * The first argument says which chain. */
#include <alloca.h>
#include <execinfo.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __clang__
#define NOINLINE __attribute__((noinline))
#else
#define NOINLINE __attribute__((noipa))
#endif

volatile int sink;

#ifdef __aarch64__
static char *stack_end;

/* What a tracer would record: under an emulator there is none. */
#define DUMP()                                                                           \
	do {                                                                             \
		void *pc, *fp, *lr;                                                      \
		unsigned char *sp;                                                       \
		__asm__ volatile("adr %0, .\n\tmov %1, sp\n\tmov %2, x29\n\tmov %3, x30" \
				 : "=&r"(pc), "=&r"(sp), "=&r"(fp), "=&r"(lr));          \
		printf("%p %p %p %p\n", pc, (void *)sp, fp, lr);                         \
		for (; (char *)sp < stack_end; sp++)                                     \
			printf("%02x", *sp);                                             \
		printf("\n");                                                            \
		exit(fflush(stdout));                                                    \
	} while (0)
#endif

/* Keeps what follows from becoming a jump. */
#define RETURN_AFTER(call)                         \
	({                                         \
		int result_ = (call);              \
		__asm__ volatile("" ::: "memory"); \
		result_ + 1;                       \
	})

int stop(void);
NOINLINE int stop(void)
{
	void *chain[128];
	int count = backtrace(chain, 128);

	for (int i = 1; i < count; i++)
		printf("%p ", chain[i]);
	printf("\n");
#ifdef __aarch64__
	if (stack_end)
		DUMP();
#endif
	fflush(stdout);
	return RETURN_AFTER(pause());
}

/* Calls stop() with all registers that a callee saves in use. */
NOINLINE int crowded(int depth)
{
	long a = depth, b = a * 3, c = b ^ 5, d = c + a, e = d * b, f = e - c;

	for (int i = 0; i < depth; i++) {
		a += b;
		b ^= c;
		c += d;
		d ^= e;
		e += f;
		f ^= a;
		sink = (int)f;
	}
	int result = depth ? crowded(depth - 1) : stop();
	return (int)(a + b + c + d + e + f) + result;
}

NOINLINE int with_alloca(int size)
{
	char *room = alloca((size_t)size);

	memset(room, size, (size_t)size);
	sink = room[size / 2];
	return RETURN_AFTER(size > 400 ? stop() : with_alloca(size + 99));
}

NOINLINE int with_vla(int count)
{
	long values[count];

	for (int i = 0; i < count; i++)
		values[i] = i;
	sink = (int)values[count - 1];
	int result = crowded(2);
	return (int)values[result & (count - 1)] + result;
}

/* The stack is realigned, so the frame is found by an expression. */
NOINLINE int with_alignment(int count)
{
	char room[128] __attribute__((aligned(128)));
	char *more = alloca((size_t)count);

	memset(room, count, sizeof(room));
	memset(more, count, (size_t)count);
	sink = room[3] + more[1] + ((uintptr_t)room % 128 != 0);
	return RETURN_AFTER(crowded(1)) + room[5] + more[1];
}

NOINLINE int with_many_arguments(int a, int b, int c, int d, int e, int f, int g, int h, int i)
{
	return RETURN_AFTER(crowded(1)) + a + b + c + d + e + f + g + h + i;
}

static int compare(const void *left, const void *right)
{
	sink = *(const int *)left - *(const int *)right;
	return stop();
}

NOINLINE int in_callback(void)
{
	int values[] = {3, 1, 2};

	qsort(values, 3, sizeof(int), compare);
	return values[0];
}

static void handler(int signum)
{
	sink = signum + stop();
}

NOINLINE int in_handler(int signum, int flags)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
	static char other_stack[1 << 16] __attribute__((aligned(16)));
	stack_t alternative = {.ss_sp = other_stack, .ss_size = sizeof(other_stack)};

	sigaltstack(&alternative, NULL);
	sigaction(signum, &action, NULL);
	if (signum != SIGILL)
		return RETURN_AFTER(raise(signum));
#ifdef __x86_64__
	extern int first_instruction_traps(void);
	return RETURN_AFTER(first_instruction_traps());
#else
	return RETURN_AFTER(raise(signum));
#endif
}

#ifdef __x86_64__
/* The byte before the trap belongs to a function with another frame. */
__asm__(".text\n"
	".type ends_before, @function\n"
	"ends_before:\n"
	"	.cfi_startproc\n"
	"	.cfi_def_cfa_offset 4096\n"
	"	nop\n"
	"	.cfi_endproc\n"
	".size ends_before, . - ends_before\n"
	".globl first_instruction_traps\n"
	".type first_instruction_traps, @function\n"
	"first_instruction_traps:\n"
	"	.cfi_startproc\n"
	"	ud2\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size first_instruction_traps, . - first_instruction_traps\n");

/* Rules that compilers write seldom: the return address in a register, the
 * CFA in another, arguments' size, states remembered. */
int by_rare_rules(void);
__asm__(".text\n"
	".globl by_rare_rules\n"
	".type by_rare_rules, @function\n"
	"by_rare_rules:\n"
	"	.cfi_startproc\n"
	"	push %rbx\n"
	"	.cfi_def_cfa_offset 16\n"
	"	.cfi_offset %rbx, -16\n"
	"	.cfi_remember_state\n"
	"	mov %rsp, %rbx\n"
	"	.cfi_def_cfa_register %rbx\n"
	"	sub $4096, %rsp\n"
	"	.cfi_escape 0x2e, 0x20\n"	/* GNU_args_size 32 */
	"	.cfi_escape 0x12, 0x03, 0x7e\n" /* def_cfa_sf rbx, -2 * -8 */
	"	call stop_saving_rbx\n"
	"	mov %rbx, %rsp\n"
	"	.cfi_restore_state\n"
	"	pop %rbx\n"
	"	.cfi_restore %rbx\n"
	"	.cfi_def_cfa_offset 8\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size by_rare_rules, . - by_rare_rules\n"
	/* rbx is not among the recorded registers: this frame tells it. */
	"stop_saving_rbx:\n"
	"	.cfi_startproc\n"
	"	push %rbx\n"
	"	.cfi_def_cfa_offset 16\n"
	"	.cfi_escape 0x10, 0x03, 0x02, 0x77, 0x00\n" /* expression rbx: breg7 + 0 */
	"	xor %ebx, %ebx\n"
	"	call stop\n"
	"	pop %rbx\n"
	"	.cfi_def_cfa_offset 8\n"
	"	.cfi_restore %rbx\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size stop_saving_rbx, . - stop_saving_rbx\n");
#else
#define by_rare_rules() crowded(3)
#endif

int main(int argc, char **argv)
{
	const char *chain = argc > 1 ? argv[1] : "";
	int result = 0;

#ifdef __aarch64__
	if (argc > 2)
		stack_end = argv[0];
#endif
	if (!strcmp(chain, "crowded"))
		result = crowded(9);
	else if (!strcmp(chain, "deep"))
		result = crowded(100);
	else if (!strcmp(chain, "alloca"))
		result = with_alloca(33);
	else if (!strcmp(chain, "vla"))
		result = with_vla(16 * argc);
	else if (!strcmp(chain, "alignment"))
		result = with_alignment(argc * 20);
	else if (!strcmp(chain, "arguments"))
		result = with_many_arguments(1, 2, 3, 4, 5, 6, 7, 8, argc);
	else if (!strcmp(chain, "callback"))
		result = in_callback();
	else if (!strcmp(chain, "handler"))
		result = in_handler(SIGUSR1, 0);
	else if (!strcmp(chain, "trap"))
		result = in_handler(SIGILL, 0);
	else if (!strcmp(chain, "other_stack"))
		result = in_handler(SIGUSR1, SA_ONSTACK);
	else if (!strcmp(chain, "rare"))
		result = by_rare_rules();
	return sink + result;
}
