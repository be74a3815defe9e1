// cages.h: the descriptors of each cage that the fs-mem grate has something to do with: its own, which have numbers from
// FD_BASE on, and some of the native ones below. It makes no calls. Who uses it holds one lock around it and memfs.
#ifndef FS_MEM_CAGES_H
#define FS_MEM_CAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "memfs.h"

enum {
    FD_BASE = 1 << 20, // more than a cage has native descriptors
    MAX_FDS = 4096,    // of a cage, from FD_BASE on
    MAX_LOWS = 1024,   // native descriptors of a cage that are known here
    MAX_CAGES = 1024,
    MAX_ROOTS = 16,
};

// A native directory that every cage is given as a descriptor, and its path here.
typedef struct {
    int32_t fd;
    const char *path; // in the form of lind_path_join; it belongs to whoever made the table
} root_t;

// What a descriptor of a cage is.
typedef enum {
    FD_NATIVE, // nothing that concerns this grate
    FD_DIR,    // a native directory above the mount: a path from there may lead into it
    FD_FILE,   // a file or directory in memory
    FD_CLOSED, // a number of this grate's own that is not open
} fd_kind_t;

typedef struct {
    fd_kind_t kind;
    memfs_file_t *file; // of FD_FILE; the table's own reference
    const char *path;   // of FD_DIR; the table's own
} fd_t;

typedef struct cage cage_t;
typedef struct {
    memfs_t *fs;
    const root_t *roots;
    int root_count;
    cage_t *cages;
    uint32_t count;
} cages_t;

// What fd of a cage is.
fd_t cages_get(const cages_t *t, uint64_t cage, int64_t fd);

// Gives file the lowest free number from FD_BASE + from on: the number, or EMFILE or ENOMEM, and the caller keeps its
// reference then.
int cages_add(cages_t *t, uint64_t cage, memfs_file_t *file, int32_t from, bool cloexec);

// Makes fd, of which kind whatever, mean file, whose reference goes to the table; 0, or EBADF or ENOMEM, and the caller keeps
// it then. A native number must be open natively, so that nothing else gets it.
int cages_set(cages_t *t, uint64_t cage, int64_t fd, memfs_file_t *file, bool cloexec);

// Says that the native descriptor fd is the directory path, or NULL: nothing of interest. A path that cannot be kept is
// nothing of interest.
void cages_set_native(cages_t *t, uint64_t cage, int64_t fd, const char *path);

// Takes a number from FD_BASE on away: 0 or EBADF.
int cages_close(cages_t *t, uint64_t cage, int64_t fd);

// The close-on-exec flag of a descriptor that is FD_FILE.
bool cages_cloexec(const cages_t *t, uint64_t cage, int64_t fd);
void cages_set_cloexec(cages_t *t, uint64_t cage, int64_t fd, bool cloexec);

// Forgets a cage, with all that it has open; or all cages.
void cages_drop(cages_t *t, uint64_t cage);
void cages_free(cages_t *t);

#endif
