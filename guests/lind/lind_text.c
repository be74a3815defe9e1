// lind_text.c: what lind_rt.h declares that is the same on the host, where tests of grates run.
#include "lind_rt.h"

// --- Arenas -------------------------------------------------------------------------------------------------------------

struct lind_arena_block {
    lind_arena_block_t *next;
    size_t size, used; // bytes, this header with it
};

enum { ARENA_HEADER = 32, ARENA_BLOCK = 16384 };

void *lind_arena_alloc(lind_arena_t *arena, size_t bytes)
{
    if (bytes > LIND_ALLOC_MAX - ARENA_HEADER)
        return NULL;
    bytes = (bytes + 15) & ~(size_t)15;
    lind_arena_block_t *block = arena->blocks;
    if (!block || block->size - block->used < bytes) {
        size_t size = bytes + ARENA_HEADER > ARENA_BLOCK ? bytes + ARENA_HEADER : ARENA_BLOCK;
        block = lind_alloc(size);
        if (!block)
            return NULL;
        block->next = arena->blocks;
        block->size = size;
        block->used = ARENA_HEADER;
        arena->blocks = block;
    }
    void *p = (char *)block + block->used;
    block->used += bytes;
    return memset(p, 0, bytes);
}

void lind_arena_free(lind_arena_t *arena)
{
    while (arena->blocks) {
        lind_arena_block_t *block = arena->blocks;
        arena->blocks = block->next;
        lind_free(block, block->size);
    }
}

_Static_assert(sizeof(lind_arena_block_t) <= ARENA_HEADER, "the header of an arena's block grew");

// --- Text ---------------------------------------------------------------------------------------------------------------

void lind_put_bytes(lind_text_t *t, const char *bytes, size_t n)
{
    if (n > t->room - t->length) {
        n = t->room - t->length;
        t->cut = true;
    }
    memcpy(t->text + t->length, bytes, n);
    t->length += n;
}

void lind_put(lind_text_t *t, const char *text)
{
    lind_put_bytes(t, text, strlen(text));
}

void lind_put_char(lind_text_t *t, char c)
{
    lind_put_bytes(t, &c, 1);
}

static void put_base(lind_text_t *t, uint64_t n, unsigned base, int at_least)
{
    char digits[64];
    int at = (int)sizeof digits;
    do {
        digits[--at] = "0123456789abcdef"[n % base];
        n /= base;
        at_least--;
    } while (n || at_least > 0);
    lind_put_bytes(t, digits + at, sizeof digits - (size_t)at);
}

void lind_put_u64(lind_text_t *t, uint64_t n)
{
    put_base(t, n, 10, 1);
}

void lind_put_i64(lind_text_t *t, int64_t n)
{
    if (n < 0)
        lind_put_char(t, '-');
    put_base(t, n < 0 ? 0 - (uint64_t)n : (uint64_t)n, 10, 1);
}

void lind_put_hex(lind_text_t *t, uint64_t n)
{
    lind_put(t, "0x");
    put_base(t, n, 16, 1);
}

void lind_put_octal(lind_text_t *t, uint64_t n)
{
    lind_put_char(t, '0');
    if (n)
        put_base(t, n, 8, 1);
}

void lind_put_fixed(lind_text_t *t, uint64_t n, int places)
{
    uint64_t unit = 1;
    for (int i = 0; i < places; i++)
        unit *= 10;
    put_base(t, n / unit, 10, 1);
    if (places > 0) {
        lind_put_char(t, '.');
        put_base(t, n % unit, 10, places);
    }
}

void lind_pad(lind_text_t *t, size_t from, size_t width)
{
    while (t->length - from < width && !t->cut)
        lind_put_char(t, ' ');
}

bool lind_parse_u64(const char *text, uint64_t max, uint64_t *n)
{
    uint64_t value = 0;
    if (!*text)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        uint64_t digit = (uint64_t)(*text - '0');
        if (value > max / 10 || value * 10 > max - digit)
            return false;
        value = value * 10 + digit;
    }
    *n = value;
    return true;
}
