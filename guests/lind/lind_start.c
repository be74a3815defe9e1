// lind_start.c: the start of a program that has no C library, and what lind_rt.h declares. It is built with the program, by
// build.sh, together with lind_text.c: with -matomics if the program has threads, and with -mbulk-memory in any case.
#include "lind_rt.h"
#include "lind.h"

#include <stdarg.h>

// --- Strings. The compiler makes instructions of these builtins, never calls, since it builds for bulk memory. ------------

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    __builtin_memcpy(to, from, bytes);
    return to;
}

void *memmove(void *to, const void *from, size_t bytes)
{
    __builtin_memmove(to, from, bytes);
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    __builtin_memset(to, value, bytes);
    return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
    const unsigned char *x = a, *y = b;
    for (; bytes; bytes--, x++, y++)
        if (*x != *y)
            return *x < *y ? -1 : 1;
    return 0;
}

size_t strlen(const char *text)
{
    size_t n = 0;
    while (text[n])
        n++;
    return n;
}

int strcmp(const char *a, const char *b)
{
    for (; *a && *a == *b; a++, b++)
        ;
    return (unsigned char)*a - (unsigned char)*b;
}

int strncmp(const char *a, const char *b, size_t bytes)
{
    for (; bytes && *a && *a == *b; a++, b++, bytes--)
        ;
    return bytes ? (unsigned char)*a - (unsigned char)*b : 0;
}

char *strchr(const char *text, int c)
{
    for (;; text++) {
        if (*text == (char)c)
            return (char *)(uintptr_t)text;
        if (!*text)
            return NULL;
    }
}

// --- Locks --------------------------------------------------------------------------------------------------------------

#if defined(__wasm_atomics__)
void lind_lock(lind_mutex_t *mu)
{
    int seen = 0;
    if (__c11_atomic_compare_exchange_strong(&mu->state, &seen, 1, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return;
    while (__c11_atomic_exchange(&mu->state, 2, __ATOMIC_ACQUIRE) != 0)
        __builtin_wasm_memory_atomic_wait32((int *)&mu->state, 2, -1);
}

void lind_unlock(lind_mutex_t *mu)
{
    if (__c11_atomic_exchange(&mu->state, 0, __ATOMIC_RELEASE) == 2)
        __builtin_wasm_memory_atomic_notify((int *)&mu->state, 1);
}
#else
// Without shared memory, one worker at a time is in the grate and main waits meanwhile.
void lind_lock(lind_mutex_t *mu)
{
    (void)mu;
}

void lind_unlock(lind_mutex_t *mu)
{
    (void)mu;
}
#endif

// --- Memory: a list of free pieces for each power of two, cut from pages that memory.grow gives. Others may grow the memory
// too (the runtime does, for the stacks of workers), so that new pages need not follow the last ones. ------------------

enum { CLASSES = 17, MIN_SHIFT = 4, PAGE_BYTES = 65536, GROW_PAGES = 16 };

typedef struct piece {
    struct piece *next;
} piece_t;

static lind_mutex_t heap_lock;     // guards what follows
static piece_t *free_pieces[CLASSES];
static char *fresh;                // memory that was never handed out
static size_t fresh_bytes;

static int class_of(size_t bytes)
{
    int class = 0;
    while (((size_t)1 << (class + MIN_SHIFT)) < bytes)
        class++;
    return class;
}

size_t lind_alloc_size(size_t bytes)
{
    return bytes > LIND_ALLOC_MAX ? bytes : (size_t)1 << (class_of(bytes) + MIN_SHIFT);
}

// Gives the fresh memory to the lists of free pieces, the largest pieces first. The caller holds heap_lock.
static void keep_fresh(void)
{
    while (fresh_bytes >= LIND_ALLOC_MIN) {
        int class = class_of(fresh_bytes);
        if (((size_t)1 << (class + MIN_SHIFT)) > fresh_bytes)
            class--;
        piece_t *piece = (piece_t *)(void *)fresh;
        piece->next = free_pieces[class];
        free_pieces[class] = piece;
        fresh += (size_t)1 << (class + MIN_SHIFT);
        fresh_bytes -= (size_t)1 << (class + MIN_SHIFT);
    }
}

void *lind_alloc(size_t bytes)
{
    if (bytes > LIND_ALLOC_MAX)
        return NULL;
    int class = class_of(bytes);
    size_t size = (size_t)1 << (class + MIN_SHIFT);
    lind_lock(&heap_lock);
    void *found = free_pieces[class];
    if (found) {
        free_pieces[class] = free_pieces[class]->next;
    } else {
        if (fresh_bytes < size) {
            keep_fresh();
            size_t page = __builtin_wasm_memory_grow(0, GROW_PAGES);
            if (page == SIZE_MAX) { // no more at once: as little as will do
                size_t pages = (size + PAGE_BYTES - 1) / PAGE_BYTES;
                page = __builtin_wasm_memory_grow(0, pages);
                fresh_bytes = page == SIZE_MAX ? 0 : pages * PAGE_BYTES;
            } else {
                fresh_bytes = (size_t)GROW_PAGES * PAGE_BYTES;
            }
            fresh = (char *)(page * PAGE_BYTES);
        }
        if (fresh_bytes >= size) {
            found = fresh;
            fresh += size;
            fresh_bytes -= size;
        }
    }
    // A larger piece does when there is nothing else: it is used up as the new fresh memory.
    for (int larger = class + 1; !found && larger < CLASSES; larger++) {
        if (!free_pieces[larger])
            continue;
        found = free_pieces[larger];
        free_pieces[larger] = free_pieces[larger]->next;
        keep_fresh();
        fresh = (char *)found + size;
        fresh_bytes = ((size_t)1 << (larger + MIN_SHIFT)) - size;
    }
    lind_unlock(&heap_lock);
    return found;
}

void lind_free(void *p, size_t bytes)
{
    if (!p || bytes > LIND_ALLOC_MAX)
        return;
    piece_t *piece = p;
    int class = class_of(bytes);
    lind_lock(&heap_lock);
    piece->next = free_pieces[class];
    free_pieces[class] = piece;
    lind_unlock(&heap_lock);
}

// --- Output ---------------------------------------------------------------------------------------------------------------

bool lind_flush(lind_text_t *t, int fd)
{
    size_t done = 0;
    int again = 1; // a caller that is being stopped interrupts the write; whatever else it is, it does not go on for ever
    while (done < t->length) {
        int n = lind_write(fd, t->text + done, t->length - done);
        if (n == -LIND_EINTR && again-- > 0)
            continue;
        if (n <= 0 || (size_t)n > t->length - done)
            break;
        done += (size_t)n;
    }
    bool all = done == t->length;
    t->length = 0;
    t->cut = false;
    return all;
}

void lind_complain(const char *text, ...)
{
    char buffer[1024];
    lind_text_t t = LIND_TEXT(buffer);
    va_list more;
    va_start(more, text);
    for (; text; text = va_arg(more, const char *))
        lind_put(&t, text);
    va_end(more);
    lind_flush(&t, 2);
}

// --- Start --------------------------------------------------------------------------------------------------------------

// As in WASI preview 1: sizes first, then pointers and strings. The pointers are the 32-bit ones of this memory.
LIND_IMPORT("args_sizes_get") int import_args_sizes_get(uint32_t *count, uint32_t *bytes);
LIND_IMPORT("args_get") int import_args_get(char **argv, char *strings);
LIND_IMPORT("environ_sizes_get") int import_environ_sizes_get(uint32_t *count, uint32_t *bytes);
LIND_IMPORT("environ_get") int import_environ_get(char **variables, char *strings);

static char **environment; // immutable once main runs

const char *lind_getenv(const char *name)
{
    size_t length = strlen(name);
    for (char **variable = environment; variable && *variable; variable++)
        if (strncmp(*variable, name, length) == 0 && (*variable)[length] == '=')
            return *variable + length + 1;
    return NULL;
}

// Strings as args_get gives them, with a NULL after the pointers; NULL if they are too long for lind_alloc.
static char **fetch(int (*sizes)(uint32_t *, uint32_t *), int (*get)(char **, char *), uint32_t *count)
{
    uint32_t bytes = 0;
    if (sizes(count, &bytes) != 0 || *count >= LIND_ALLOC_MAX / sizeof(char *))
        return NULL;
    char **pointers = lind_alloc((*count + 1) * sizeof(char *));
    char *strings = lind_alloc(bytes);
    if (!pointers || !strings || get(pointers, strings) != 0)
        return NULL;
    pointers[*count] = NULL;
    return pointers;
}

static int args_sizes(uint32_t *count, uint32_t *bytes)
{
    return import_args_sizes_get(count, bytes);
}

static int args(char **pointers, char *strings)
{
    return import_args_get(pointers, strings);
}

static int environ_sizes(uint32_t *count, uint32_t *bytes)
{
    return import_environ_sizes_get(count, bytes);
}

static int environ(char **pointers, char *strings)
{
    return import_environ_get(pointers, strings);
}

void _start(void);

void _start(void)
{
    uint32_t argc = 0, variables = 0;
    char **argv = fetch(args_sizes, args, &argc);
    environment = fetch(environ_sizes, environ, &variables);
    if (!argv || !environment) {
        lind_complain("cannot read the arguments and the environment: they are longer than 1 MiB\n", NULL);
        lind_exit(126);
    }
    lind_exit(main((int)argc, argv));
}
