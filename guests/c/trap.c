// trap KIND: executes a WebAssembly trap three functions deep, so that a backtrace has names to show:
// outer -> middle -> inner. KIND is "unreachable" (the default), "divide", "memory", "call" (a function pointer of
// the wrong type), "stack" (recursion without end) or "abort".
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline))

static volatile int zero, hundred = 100;
static volatile uint32_t far_away = 0xfffffff0u;

NOINLINE static int takes_none(void)
{
    return zero;
}

typedef int (*takes_two_fn)(int, double);
static volatile takes_two_fn wrong = (takes_two_fn)(void *)takes_none;

NOINLINE int recurse(int depth)
{
    // zero keeps the compiler from proving that this has no end; the sum, from turning it into a loop.
    if (depth < zero)
        return 0;
    return recurse(depth + 1) + zero;
}

NOINLINE int inner(const char *kind)
{
    if (strcmp(kind, "divide") == 0)
        return hundred / zero; // not 1 / zero, which compiles to no division
    if (strcmp(kind, "memory") == 0)
        return *(volatile int *)(uintptr_t)far_away;
    if (strcmp(kind, "call") == 0)
        return wrong(1, 2.0);
    if (strcmp(kind, "stack") == 0)
        return recurse(0);
    if (strcmp(kind, "abort") == 0)
        abort();
    __builtin_trap();
}

NOINLINE int middle(const char *kind)
{
    return inner(kind) + zero;
}

NOINLINE int outer(const char *kind)
{
    return middle(kind) + zero;
}

int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "unreachable";
    printf("about to trap: %s\n", kind);
    fflush(stdout);
    return outer(kind);
}
