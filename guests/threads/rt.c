#include "rt.h"

#include <stdarg.h>

enum { MAX_ARGS = 32, ARG_BYTES = 4096, MAX_PARTS = 16 };

// What thread-spawn carries to the new thread. start.S reads stack_top, which must come first.
typedef struct {
    char *stack_top;
    void (*fn)(int arg);
    int arg;
} launch_t;

__attribute__((import_module("wasi"), import_name("thread-spawn"))) int wasi_thread_spawn(launch_t *launch);

static _Alignas(16) char stacks[RT_MAX_THREADS][RT_STACK_BYTES];
static launch_t launches[RT_MAX_THREADS];
static int spawned;

int rt_spawn(void (*fn)(int arg), int arg)
{
    if (spawned == RT_MAX_THREADS)
        return -1;
    launch_t *launch = &launches[spawned];
    launch->stack_top = stacks[spawned] + RT_STACK_BYTES;
    launch->fn = fn;
    launch->arg = arg;
    int tid = wasi_thread_spawn(launch);
    if (tid > 0)
        spawned++;
    return tid;
}

// Called by start.S, on the thread's own stack.
void rt_thread_main(int tid, launch_t *launch)
{
    (void)tid;
    launch->fn(launch->arg);
}

void rt_lock(rt_mutex_t *mu)
{
    int seen = 0;
    if (__c11_atomic_compare_exchange_strong(mu, &seen, 1, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return;
    while (__c11_atomic_exchange(mu, 2, __ATOMIC_ACQUIRE) != 0)
        rt_wait(mu, 2);
}

void rt_unlock(rt_mutex_t *mu)
{
    if (__c11_atomic_exchange(mu, 0, __ATOMIC_RELEASE) == 2)
        __builtin_wasm_memory_atomic_notify((int *)mu, 1);
}

static uint32_t length(const char *text)
{
    uint32_t n = 0;
    while (text[n])
        n++;
    return n;
}

void rt_write(int fd, const char *text, ...)
{
    iovec_t parts[MAX_PARTS];
    uint32_t count = 0, done;
    va_list more;
    va_start(more, text);
    for (; text && count < MAX_PARTS; text = va_arg(more, const char *))
        parts[count++] = (iovec_t){text, length(text)};
    va_end(more);
    if (wasi_fd_write(fd, parts, count, &done) != 0)
        wasi_proc_exit(74);
}

const char *rt_decimal(char *out, uint32_t n)
{
    char digits[10];
    int count = 0;
    do {
        digits[count++] = (char)('0' + n % 10);
        n /= 10;
    } while (n);
    for (int i = 0; i < count; i++)
        out[i] = digits[count - 1 - i];
    out[count] = 0;
    return out;
}

int rt_number(const char *text)
{
    int n = 0;
    if (!*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || n > 100000000)
            return -1;
        n = n * 10 + (*text - '0');
    }
    return n;
}

const char *rt_after(const char *text, const char *prefix)
{
    for (; *prefix; text++, prefix++)
        if (*text != *prefix)
            return NULL;
    return text;
}

__attribute__((export_name("_start"))) void rt_start(void)
{
    static char *argv[MAX_ARGS + 1];
    static char bytes[ARG_BYTES];
    uint32_t argc, size;
    if (wasi_args_sizes_get(&argc, &size) != 0 || argc > MAX_ARGS || size > ARG_BYTES ||
        wasi_args_get(argv, bytes) != 0) {
        rt_write(2, "cannot read the arguments: too many, or too long\n", NULL);
        wasi_proc_exit(2);
    }
    rt_main((int)argc, argv);
}
