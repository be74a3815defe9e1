// fdpaths.h: which path each descriptor of each cage was opened by. What is not known here is unknown: whoever decides by it
// has to assume the worst then. Safe for concurrent use; nothing blocks but for the table's own lock.
#ifndef DENY_FDPATHS_H
#define DENY_FDPATHS_H

#include <stdbool.h>
#include <stdint.h>

#include "lind_rt.h"

enum { FDPATHS_BUCKETS = 1024, FDPATHS_MAX = 65536 };

typedef struct fdpath fdpath_t;

// Zeroed, it is empty. The paths belong to it.
typedef struct {
    lind_mutex_t mu;
    fdpath_t *buckets[FDPATHS_BUCKETS]; // guarded by mu
    uint32_t count;                     // guarded by mu
} fdpaths_t;

// Says that fd of the cage is path, whatever it was before. Without memory, or above FDPATHS_MAX, it becomes unknown.
void fdpaths_set(fdpaths_t *t, uint64_t cage, int32_t fd, const char *path);

// Copies the path of fd to out, which has LIND_PATH_MAX bytes. False if it is unknown.
bool fdpaths_get(fdpaths_t *t, uint64_t cage, int32_t fd, char *out);

// Makes fd unknown, or every descriptor of a cage.
void fdpaths_drop(fdpaths_t *t, uint64_t cage, int32_t fd);
void fdpaths_drop_cage(fdpaths_t *t, uint64_t cage);

#endif
