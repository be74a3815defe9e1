// lind_host.c: what lind_rt.h needs of lind_start.c, on the host: for tests of a grate's logic. It checks what the start
// file cannot: that memory is given back with the size that it was asked for, and that all of it is.
#include "lind_host.h"

#include <stdio.h>
#include <stdlib.h>

#include "lind_rt.h"

typedef struct {
    size_t bytes, pad;
} header_t;

static size_t live;
static long countdown = -1;

void host_fail_after(long allocations)
{
    countdown = allocations;
}

size_t host_live(void)
{
    return live;
}

void host_check(bool ok, const char *what, const char *file, int line)
{
    if (ok)
        return;
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    abort();
}

size_t lind_alloc_size(size_t bytes)
{
    size_t size = LIND_ALLOC_MIN;
    while (size < bytes && size < LIND_ALLOC_MAX)
        size *= 2;
    return size < bytes ? bytes : size;
}

void *lind_alloc(size_t bytes)
{
    if (bytes > LIND_ALLOC_MAX || countdown == 0)
        return NULL;
    if (countdown > 0)
        countdown--;
    header_t *header = malloc(sizeof *header + bytes);
    CHECK(header != NULL);
    header->bytes = bytes;
    live++;
    memset(header + 1, 0xa5, bytes); // no one may count on zeros
    return header + 1;
}

void lind_free(void *p, size_t bytes)
{
    if (!p)
        return;
    header_t *header = (header_t *)p - 1;
    CHECK(header->bytes == bytes);
    live--;
    free(header);
}

void lind_lock(lind_mutex_t *mu)
{
    CHECK(mu->state == 0); // tests have one thread: a second lock would never end
    mu->state = 1;
}

void lind_unlock(lind_mutex_t *mu)
{
    CHECK(mu->state == 1);
    mu->state = 0;
}
