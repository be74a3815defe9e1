// memfs.h: a file system in memory: directories, files, what is open. It knows no cages and no descriptors and makes no
// calls; who uses it holds one lock around all of it, and brings the time (nanoseconds since 1970).
//
// Functions answer 0 or more, or the negative of an error number. Where a path is asked for, it is what lind_path_join
// makes: "/" or "/a/b", looked at from the directory `from`. There are no symbolic links. Permissions are kept and not
// looked at.
#ifndef FS_MEM_MEMFS_H
#define FS_MEM_MEMFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MEMFS_BLOCK = 16384,         // bytes of a file that lie together
    MEMFS_MAX_FILE = 0x7fffffff, // bytes of a file: a result of the Lind ABI has 31 bits
    MEMFS_STAT_BYTES = 144,      // struct stat of Linux x86-64

    // Flags of open(2) on Linux x86-64, and of renameat2(2).
    MEMFS_WRONLY = 01,
    MEMFS_RDWR = 02,
    MEMFS_ACCMODE = 03,
    MEMFS_CREAT = 0100,
    MEMFS_EXCL = 0200,
    MEMFS_TRUNC = 01000,
    MEMFS_APPEND = 02000,
    MEMFS_NONBLOCK = 04000,
    MEMFS_DIRECTORY = 0200000,
    MEMFS_CLOEXEC = 02000000,
    MEMFS_PATH = 010000000,
    MEMFS_TMPFILE = 020000000,
    MEMFS_RENAME_NOREPLACE = 1,
};

typedef struct memfs_node memfs_node_t;
typedef struct memfs_entry memfs_entry_t;

// An open file description. The members are for who opened it; pos is of a directory the d_off to go on after.
typedef struct {
    memfs_node_t *node; // immutable
    uint64_t pos;
    int flags; // those of open that stay
    uint32_t refs;
} memfs_file_t;

enum { MEMFS_BUCKETS = 16384 };

typedef struct {
    memfs_node_t *root;
    uint64_t bytes, max_bytes;
    uint32_t nodes, max_nodes;
    uint64_t next_ino;
    memfs_entry_t *buckets[MEMFS_BUCKETS];
} memfs_t;

// Makes an empty file system. max_bytes bounds the memory of data and names, max_nodes files and directories.
int memfs_init(memfs_t *fs, uint64_t max_bytes, uint32_t max_nodes, uint64_t now);

// Gives all of it back. Nothing may be open.
void memfs_free(memfs_t *fs);

// Opens path; *file has one reference then. EISDIR, ENOTDIR, EEXIST, ENOENT, ENOSPC, EOPNOTSUPP (an unnamed file).
int memfs_open(memfs_t *fs, memfs_node_t *from, const char *path, int flags, uint32_t mode, uint64_t now,
               memfs_file_t **file);
void memfs_ref(memfs_file_t *file);
void memfs_close(memfs_t *fs, memfs_file_t *file);

int memfs_find(memfs_t *fs, memfs_node_t *from, const char *path, memfs_node_t **node);
bool memfs_is_dir(const memfs_node_t *node);
uint64_t memfs_size(const memfs_node_t *node);
void memfs_stat(const memfs_node_t *node, unsigned char out[MEMFS_STAT_BYTES]);
// A time of UINT64_MAX leaves what is there.
void memfs_set_times(memfs_node_t *node, uint64_t atime, uint64_t mtime, uint64_t now);
void memfs_set_mode(memfs_node_t *node, uint32_t mode, uint64_t now);

int memfs_mkdir(memfs_t *fs, memfs_node_t *from, const char *path, uint32_t mode, uint64_t now);
int memfs_unlink(memfs_t *fs, memfs_node_t *from, const char *path, uint64_t now);
int memfs_rmdir(memfs_t *fs, memfs_node_t *from, const char *path, uint64_t now);
int memfs_rename(memfs_t *fs, memfs_node_t *from, const char *path, memfs_node_t *to_from, const char *to,
                 unsigned flags, uint64_t now);
int memfs_link(memfs_t *fs, memfs_node_t *from, const char *path, memfs_node_t *to_from, const char *to, uint64_t now);

// Makes the file size bytes long: cut, or with zeros at its end.
int memfs_truncate(memfs_t *fs, memfs_node_t *node, uint64_t size, uint64_t now);

// The bytes of a file from pos on that lie together, at most max: how many, 0 at its end. *data is NULL where none were ever
// written, which is to say that they are zeros.
size_t memfs_read_span(const memfs_node_t *node, uint64_t pos, size_t max, const char **data);

// Room for bytes of a file from pos on that lie together, at most max, in *data: how many, or EFBIG or ENOSPC. They are part
// of the file only when memfs_written says so; who does not write them all says how many it did.
int memfs_write_span(memfs_t *fs, memfs_node_t *node, uint64_t pos, size_t max, char **data);
void memfs_written(memfs_node_t *node, uint64_t pos, char *data, size_t room, size_t done, uint64_t now);

// Fills out with linux_dirent64 structures from the file's position on, and moves it. The bytes, 0 at the end; EINVAL if
// not even one fits, ENOENT if the directory was removed.
int memfs_list(memfs_file_t *file, unsigned char *out, size_t room);

#endif
