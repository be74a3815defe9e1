// rt.h: what the threaded C guests have in place of a C library, whose Debian build has no threads: WASI imports, spawning
// a thread on a stack of its own, a mutex and a wait on a word, and writing text.
#ifndef LINDBRIDGE_GUESTS_RT_H
#define LINDBRIDGE_GUESTS_RT_H

#include <stddef.h>
#include <stdint.h>

#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))

typedef struct {
    const void *base;
    uint32_t length;
} iovec_t;

WASI(args_sizes_get) int wasi_args_sizes_get(uint32_t *count, uint32_t *bytes);
WASI(args_get) int wasi_args_get(char **argv, char *bytes);
WASI(fd_read) int wasi_fd_read(int fd, const iovec_t *iovecs, uint32_t count, uint32_t *done);
WASI(fd_write) int wasi_fd_write(int fd, const iovec_t *iovecs, uint32_t count, uint32_t *done);
WASI(poll_oneoff) int wasi_poll_oneoff(const void *subscriptions, void *events, uint32_t count, uint32_t *ready);
WASI(proc_exit) _Noreturn void wasi_proc_exit(int code);

enum { RT_MAX_THREADS = 64, RT_STACK_BYTES = 16384 };

// Runs fn(arg) on a new thread with RT_STACK_BYTES of stack. Answers the thread's id, larger than 0, or a negative number.
// Only the first thread may call it, and at most RT_MAX_THREADS times.
int rt_spawn(void (*fn)(int arg), int arg);

// Blocks while *word is value. May come back early.
static inline void rt_wait(_Atomic int *word, int value)
{
    __builtin_wasm_memory_atomic_wait32((int *)word, value, -1);
}

static inline void rt_wake_all(_Atomic int *word)
{
    __builtin_wasm_memory_atomic_notify((int *)word, 0xffffffffu);
}

// A mutex: 0 free, 1 held, 2 held and perhaps waited for.
typedef _Atomic int rt_mutex_t;
void rt_lock(rt_mutex_t *mu);
void rt_unlock(rt_mutex_t *mu);

// Writes the texts, up to a NULL, to fd with one call, so that lines of several threads do not mix.
void rt_write(int fd, const char *text, ...);

// Writes n in decimal to out, which has room for 12 bytes, and answers out.
const char *rt_decimal(char *out, uint32_t n);

// The value of a decimal text, or -1 if it is none or above 1,000,000,000.
int rt_number(const char *text);

// If text begins with prefix, what follows it; else NULL.
const char *rt_after(const char *text, const char *prefix);

// The program: called with its arguments. When it returns, _start returns.
void rt_main(int argc, char **argv);

#endif
