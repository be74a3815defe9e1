// lind_rt.h: what lind_start.c gives to programs that have no C library: strings, memory, locks, text, arguments.
//
// Everything is safe for concurrent use by the threads and workers of one cage, unless it says otherwise. On the host,
// where tests of a grate's logic are built, the same names are the C library's (see the end).
#ifndef LIND_RT_H
#define LIND_RT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__wasm__)
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);
size_t strlen(const char *text);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t bytes);
char *strchr(const char *text, int c);
#else
#include <string.h>
#endif

// --- The program --------------------------------------------------------------------------------------------------------

// What _start calls, with a NULL after the arguments. When it returns, the whole cage ends with its answer.
#if defined(__wasm__)
int main(int argc, char **argv);
#endif

// The value of an environment variable, or NULL. It belongs to the environment.
const char *lind_getenv(const char *name);

// --- Memory -------------------------------------------------------------------------------------------------------------

// The sizes that lind_alloc serves, in bytes. Each is rounded up to a power of two.
#define LIND_ALLOC_MIN ((size_t)16)
#define LIND_ALLOC_MAX ((size_t)1 << 20)

// bytes of memory, aligned to 16 and not zeroed, or NULL if there is none or bytes is above LIND_ALLOC_MAX. The caller
// gives it back with lind_free.
void *lind_alloc(size_t bytes);

// Gives back what lind_alloc(bytes) answered: with the same bytes. NULL is nothing.
void lind_free(void *p, size_t bytes);

// How many bytes lind_alloc(bytes) takes.
size_t lind_alloc_size(size_t bytes);

// An arena: memory that is given back as a whole. Zeroed, it is empty. One thread at a time may use it.
typedef struct lind_arena_block lind_arena_block_t;
typedef struct {
    lind_arena_block_t *blocks;
} lind_arena_t;

// bytes of zeroed memory of the arena, aligned to 16, or NULL.
void *lind_arena_alloc(lind_arena_t *arena, size_t bytes);
void lind_arena_free(lind_arena_t *arena);

// --- Locks --------------------------------------------------------------------------------------------------------------

// A mutex. Zeroed, it is free. It does not know its owner: whoever is stopped with it held keeps it for good, so hold it
// for short computations and copies, and for no call that may block. In a program without threads it is nothing.
typedef struct {
    _Atomic int state; // 0 free, 1 held, 2 held and perhaps waited for
} lind_mutex_t;

void lind_lock(lind_mutex_t *mu);
void lind_unlock(lind_mutex_t *mu);

// --- Text ---------------------------------------------------------------------------------------------------------------

// Text that is put together in memory of the caller's. What does not fit is cut, and `cut` is set. One thread at a time.
typedef struct {
    char *text; // not NUL-terminated
    size_t room, length;
    bool cut;
} lind_text_t;

#define LIND_TEXT(buffer) {(buffer), sizeof(buffer), 0, false}

void lind_put(lind_text_t *t, const char *text);
void lind_put_bytes(lind_text_t *t, const char *bytes, size_t n);
void lind_put_char(lind_text_t *t, char c);
void lind_put_u64(lind_text_t *t, uint64_t n);
void lind_put_i64(lind_text_t *t, int64_t n);
void lind_put_hex(lind_text_t *t, uint64_t n);   // with 0x
void lind_put_octal(lind_text_t *t, uint64_t n); // with a leading 0
// Decimal with `places` digits after the point: 1234567, 6 is 1.234567.
void lind_put_fixed(lind_text_t *t, uint64_t n, int places);
// Blanks until the text since `from` has `width` bytes.
void lind_pad(lind_text_t *t, size_t from, size_t width);

// Writes all of it to fd, in one call unless that moves less, and empties it. Blocks while fd does. False if it fails.
bool lind_flush(lind_text_t *t, int fd);

// Writes the texts, up to a NULL, to standard error with one call, as far as they fit in 1,024 bytes. Blocks.
void lind_complain(const char *text, ...);

// The number that text is in decimal, all of it, in *n. False if it is none, or above max.
bool lind_parse_u64(const char *text, uint64_t max, uint64_t *n);

#endif
