// threads: a program with busy, waiting, reading and sleeping threads, that ends in a way to be chosen.
//
//	threads [busy=N] [waiting=N] [reading=N] [sleeping=N] [END]
//
// Each N is 2 if not said. END is one of
//	forever     all go on until someone else ends the program (if not said)
//	exit=CODE   one more thread calls proc_exit(CODE) when all are there
//	trap        one more thread traps when all are there
//	return      the first thread returns when all are there
//
// It writes one line when all threads are there, and one before it ends itself. Reading threads read standard input, which
// must block: at its end they exit with 75.
#include "rt.h"

enum { MONOTONIC = 1 };

static _Atomic int there;  // threads that are about to do what they are for
static _Atomic int never;  // stays 0
static int total;          // set before the first spawn
static int exit_code;      // set before the first spawn

static void arrive(void)
{
    __c11_atomic_fetch_add(&there, 1, __ATOMIC_SEQ_CST);
    rt_wake_all(&there);
}

static void await_all(void)
{
    for (;;) {
        int seen = __c11_atomic_load(&there, __ATOMIC_SEQ_CST);
        if (seen == total)
            return;
        rt_wait(&there, seen);
    }
}

static void busy_thread(int index)
{
    (void)index;
    arrive();
    for (;;)
        __asm__ volatile(""); // an endless loop that C may not assume to end
}

static void waiting_thread(int index)
{
    (void)index;
    arrive();
    for (;;)
        rt_wait(&never, 0);
}

static void reading_thread(int index)
{
    (void)index;
    char buffer[64];
    iovec_t into = {buffer, sizeof buffer};
    uint32_t done = 0;
    arrive();
    do {
        if (wasi_fd_read(0, &into, 1, &done) != 0)
            wasi_proc_exit(74);
    } while (done > 0);
    wasi_proc_exit(75);
}

static void sleeping_thread(int index)
{
    (void)index;
    // subscription: user data, tag 0 (clock), clock id, timeout and precision in nanoseconds, flags 0 (relative)
    struct {
        uint64_t user, tag;
        uint32_t id, pad;
        uint64_t timeout, precision, flags;
    } hour = {0, 0, MONOTONIC, 0, 3600ull * 1000 * 1000 * 1000, 0, 0};
    uint64_t event[4];
    uint32_t ready;
    arrive();
    for (;;)
        if (wasi_poll_oneoff(&hour, event, 1, &ready) != 0)
            wasi_proc_exit(74);
}

static void exiting_thread(int index)
{
    (void)index;
    char number[12];
    await_all();
    rt_write(1, "threads: a thread calls proc_exit(", rt_decimal(number, (uint32_t)exit_code), ")\n", NULL);
    wasi_proc_exit(exit_code);
}

static void trapping_thread(int index)
{
    (void)index;
    await_all();
    rt_write(1, "threads: a thread traps\n", NULL);
    __builtin_trap();
}

typedef struct {
    const char *option;
    const char *word;
    void (*fn)(int);
    int count;
} kind_t;

static kind_t kinds[] = {
    {"busy=", " busy, ", busy_thread, 2},
    {"waiting=", " waiting, ", waiting_thread, 2},
    {"reading=", " reading and ", reading_thread, 2},
    {"sleeping=", " sleeping threads are there\n", sleeping_thread, 2},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static _Noreturn void usage(void)
{
    rt_write(2, "usage: threads [busy=N] [waiting=N] [reading=N] [sleeping=N] [forever|exit=CODE|trap|return]\n", NULL);
    wasi_proc_exit(2);
}

static int set_count(const char *arg)
{
    for (int i = 0; i < KINDS; i++) {
        const char *value = rt_after(arg, kinds[i].option);
        if (value) {
            kinds[i].count = rt_number(value);
            return kinds[i].count >= 0;
        }
    }
    return 0;
}

static int same(const char *a, const char *b)
{
    const char *rest = rt_after(a, b);
    return rest && !*rest;
}

static void spawn(void (*fn)(int), int arg)
{
    if (rt_spawn(fn, arg) <= 0) {
        rt_write(2, "threads: cannot spawn a thread\n", NULL);
        wasi_proc_exit(71);
    }
}

void rt_main(int argc, char **argv)
{
    void (*ender)(int) = NULL;
    int returns = 0;
    for (int i = 1; i < argc; i++) {
        const char *code = rt_after(argv[i], "exit=");
        if (code) {
            ender = exiting_thread;
            exit_code = rt_number(code);
            if (exit_code < 0)
                usage();
        } else if (same(argv[i], "trap")) {
            ender = trapping_thread;
        } else if (same(argv[i], "return")) {
            returns = 1;
        } else if (!same(argv[i], "forever") && !set_count(argv[i])) {
            usage();
        }
    }
    for (int i = 0; i < KINDS; i++)
        total += kinds[i].count;
    if (total > RT_MAX_THREADS - 1)
        usage();
    for (int i = 0; i < KINDS; i++)
        for (int k = 0; k < kinds[i].count; k++)
            spawn(kinds[i].fn, k);
    await_all();
    char n[KINDS][12];
    for (int i = 0; i < KINDS; i++)
        rt_decimal(n[i], (uint32_t)kinds[i].count);
    rt_write(1, "threads: ", n[0], kinds[0].word, n[1], kinds[1].word, n[2], kinds[2].word, n[3], kinds[3].word, NULL);
    if (ender)
        spawn(ender, 0);
    if (returns) {
        rt_write(1, "threads: the first thread returns\n", NULL);
        return;
    }
    for (;;)
        rt_wait(&never, 0);
}
