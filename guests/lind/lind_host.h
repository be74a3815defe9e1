// lind_host.h: for tests of a grate's logic on the host. Link with lind_host.c and lind_text.c in place of lind_start.c.
#ifndef LIND_HOST_H
#define LIND_HOST_H

#include <stdbool.h>
#include <stddef.h>

// Ends the test unless the condition holds.
#define CHECK(condition) host_check((condition), #condition, __FILE__, __LINE__)
void host_check(bool ok, const char *what, const char *file, int line);

// Lets this many allocations succeed and all after them fail; negative: none fails.
void host_fail_after(long allocations);

// How many allocations were not given back.
size_t host_live(void);

#endif
