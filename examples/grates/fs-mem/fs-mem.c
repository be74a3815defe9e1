// fs-mem [-d FD=PATH]... [-s MEGABYTES] [-n FILES] MOUNT: a grate with a file system in memory, which the program above it
// finds at MOUNT. Everything else goes where it would go without the grate. README.md has the manual.
//
// Files in memory have descriptors of their own from FD_BASE on, which nobody else gives out. A native number that is made to
// mean such a file (dup2) stays open natively, so that it is not given out again, and is shadowed here.
//
// One lock guards everything. It is held while data is copied, a megabyte at most, and never while a call is passed on.
// Arguments are copied in before they are looked at. What a caller does to memory or descriptors that another of its threads
// is using at the moment can only confuse that caller.
#include "cages.h"
#include "lind.h"
#include "lind_path.h"
#include "lind_rt.h"
#include "memfs.h"

LIND_GRATE;

enum {
    MEGABYTE = 1 << 20,
    COPY_MAX = MEGABYTE, // bytes that are copied before the lock is free for others once
    IOVECS_AT_ONCE = 32,
    DIRENTS_AT_ONCE = 4096,
    POLL_MAX = 1024,

    AT_REMOVEDIR_ = 0x200,
    AT_EMPTY_PATH_ = 0x1000,
    F_DUPFD_ = 0,
    F_GETFD_ = 1,
    F_SETFD_ = 2,
    F_GETFL_ = 3,
    F_SETFL_ = 4,
    F_DUPFD_CLOEXEC_ = 1030,
    SEEK_SET_ = 0,
    SEEK_CUR_ = 1,
    SEEK_END_ = 2,
    UTIME_NOW_ = 0x3fffffff,
    UTIME_OMIT_ = 0x3ffffffe,
    SYS_FCHMOD_ = 91,
    SYS_FCHOWN_ = 93,
    ENOTSOCK_ = 88,
    POLL_READY = 0x1 | 0x4 | 0x40 | 0x100, // POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM
};

static char mount[LIND_PATH_MAX];                 // immutable once it serves
static root_t roots[MAX_ROOTS];                   // immutable once it serves
static char root_paths[MAX_ROOTS][LIND_PATH_MAX]; // immutable once it serves

static lind_mutex_t mu;
static memfs_t fs;                       // guarded by mu
static cages_t cages = {.roots = roots}; // guarded by mu

static uint64_t now_ns(void)
{
    return lind_clock_ns(LIND_CLOCK_REALTIME);
}

static int64_t fd_arg(const lind_call_t *call, int i)
{
    return (int32_t)call->arg[i].value;
}

// --- Descriptors ----------------------------------------------------------------------------------------------------------

// What a descriptor is. A root that is the mount itself becomes a file in memory when it is first seen.
static fd_t look_locked(uint64_t cage, int64_t fd)
{
    fd_t found = cages_get(&cages, cage, fd);
    memfs_file_t *file;
    if (found.kind == FD_DIR && strcmp(found.path, mount) == 0 &&
        memfs_open(&fs, fs.root, "/", MEMFS_DIRECTORY, 0, 0, &file) == 0) {
        if (cages_set(&cages, cage, fd, file, false) == 0)
            return cages_get(&cages, cage, fd);
        memfs_close(&fs, file);
    }
    return found;
}

// The file that a descriptor is, with a reference for the caller; NULL if it is none. *closed: it is none of anybody's.
static memfs_file_t *pin(uint64_t cage, int64_t fd, bool *closed)
{
    lind_lock(&mu);
    fd_t found = look_locked(cage, fd);
    if (found.kind == FD_FILE)
        memfs_ref(found.file);
    *closed = found.kind == FD_CLOSED;
    lind_unlock(&mu);
    return found.kind == FD_FILE ? found.file : NULL;
}

static void unpin(memfs_file_t *file)
{
    lind_lock(&mu);
    memfs_close(&fs, file);
    lind_unlock(&mu);
}

// --- Paths ------------------------------------------------------------------------------------------------------------------

// Where a path argument leads.
typedef struct {
    bool mine;                // into the file system in memory, else elsewhere
    memfs_node_t *from;       // if it is mine: what the rest is looked at from; valid while the lock is held
    char path[LIND_PATH_MAX]; // if it is mine: the rest; else the path as far as it is known, or ""
    char text[LIND_PATH_MAX]; // as it came
    int how;                  // LIND_PATH_ flags
} where_t;

// The directory descriptor of a path that a call has at argument i, or none.
static int64_t dirfd_arg(const lind_call_t *call, int i)
{
    return i < 0 ? LIND_AT_FDCWD : fd_arg(call, i);
}

// Resolves w->text, which is there already. 0, or an error that is certain; a path that leads elsewhere never has one.
static int resolve_locked(where_t *w, const lind_call_t *call, int64_t dirfd, bool empty_is_fd)
{
    fd_t dir = {FD_NATIVE, NULL, NULL};
    bool absolute = w->text[0] == '/';
    w->mine = false;
    w->path[0] = 0;
    w->how = 0;
    if (!absolute) {
        dir = look_locked(call->cage, dirfd);
        if (dir.kind == FD_CLOSED)
            return -LIND_EBADF;
        if (dir.kind == FD_NATIVE)
            return 0;
    }
    if (dir.kind == FD_FILE) {
        w->mine = true;
        w->from = dir.file->node;
        if (w->text[0] == 0 && empty_is_fd)
            return 0;
        if (!memfs_is_dir(dir.file->node))
            return -LIND_ENOTDIR;
        return lind_path_join(w->path, "/", w->text, &w->how); // what leads out is EXDEV, as it is natively
    }
    if (lind_path_join(w->path, absolute ? "/" : dir.path, w->text, &w->how) != 0) {
        w->path[0] = 0; // the native call says what is wrong with it
        return 0;
    }
    if (!lind_path_beneath(mount, w->path))
        return 0;
    w->mine = true;
    w->from = fs.root;
    size_t prefix = strcmp(mount, "/") == 0 ? 0 : strlen(mount);
    memmove(w->path, w->path + prefix, strlen(w->path + prefix) + 1);
    return 0;
}

// Copies in and resolves the path at argument path. The caller holds the lock when it is 0.
static int where(where_t *w, const lind_call_t *call, int dirfd, int path, bool empty_is_fd)
{
    int n = lind_copy_in_string(w->text, sizeof w->text, call->arg[path]);
    if (n < 0)
        return n;
    lind_lock(&mu);
    int error = resolve_locked(w, call, dirfd_arg(call, dirfd), empty_is_fd);
    if (error != 0)
        lind_unlock(&mu);
    return error;
}

// What a path leads to, for calls on what is there.
static int find_locked(const where_t *w, memfs_node_t **node)
{
    int error = memfs_find(&fs, w->from, w->path, node);
    if (error == 0 && (w->how & LIND_PATH_IS_DIR) && !memfs_is_dir(*node))
        return -LIND_ENOTDIR;
    return error;
}

// Which arguments of a call are a directory descriptor, a path, and others: -1 if it has none.
typedef struct {
    int dirfd, path, flags, mode;
} shape_t;

static int serve_open(uint32_t number, const lind_call_t *call, shape_t shape)
{
    where_t w;
    int error = where(&w, call, shape.dirfd, shape.path, false);
    if (error != 0)
        return error;
    if (!w.mine) {
        lind_unlock(&mu);
        int result = lind_forward(number, call);
        if (result >= 0) {
            lind_lock(&mu);
            // Only a directory above the mount is of interest: others cannot lead there.
            cages_set_native(&cages, call->cage, result, w.path[0] && lind_path_beneath(w.path, mount) ? w.path : NULL);
            lind_unlock(&mu);
        }
        return result;
    }
    int flags = shape.flags < 0 ? MEMFS_WRONLY | MEMFS_CREAT | MEMFS_TRUNC : (int)call->arg[shape.flags].value;
    uint32_t mode = shape.mode < 0 ? 0 : (uint32_t)call->arg[shape.mode].value;
    lind_unlock(&mu);
    uint64_t now = now_ns(); // a call: not with the lock held
    lind_lock(&mu);
    error = resolve_locked(&w, call, dirfd_arg(call, shape.dirfd), false);
    if (error == 0 && !w.mine)
        error = -LIND_EBADF; // the descriptor has become another meanwhile
    if (error == 0 && (w.how & LIND_PATH_IS_DIR)) {
        if (flags & MEMFS_CREAT)
            error = -LIND_EISDIR;
        flags |= MEMFS_DIRECTORY;
    }
    memfs_file_t *file;
    if (error == 0)
        error = memfs_open(&fs, w.from, w.path, flags, mode, now, &file);
    if (error == 0) {
        error = cages_add(&cages, call->cage, file, 0, (flags & MEMFS_CLOEXEC) != 0);
        if (error < 0)
            memfs_close(&fs, file);
    }
    lind_unlock(&mu);
    return error;
}

// A change of the tree at one path.
static int change_locked(uint32_t number, const lind_call_t *call, const where_t *w, shape_t shape, uint64_t now)
{
    memfs_node_t *node;
    bool rmdir = number == LIND_SYS_RMDIR;
    switch (number) {
    case LIND_SYS_MKDIR:
    case LIND_SYS_MKDIRAT:
        if (w->how & LIND_PATH_IS_DOTS)
            return memfs_find(&fs, w->from, w->path, &node) == 0 ? -LIND_EEXIST : -LIND_ENOENT;
        return memfs_mkdir(&fs, w->from, w->path, (uint32_t)call->arg[shape.mode].value, now);
    case LIND_SYS_UNLINKAT:
        if (call->arg[shape.flags].value & ~(uint64_t)AT_REMOVEDIR_)
            return -LIND_EINVAL;
        rmdir = (call->arg[shape.flags].value & AT_REMOVEDIR_) != 0;
        break;
    }
    if (rmdir) {
        if (w->how & LIND_PATH_IS_DOTS)
            return -LIND_EINVAL;
        return memfs_rmdir(&fs, w->from, w->path, now);
    }
    int error = find_locked(w, &node); // unlink
    return error ? error : memfs_unlink(&fs, w->from, w->path, now);
}

static int serve_change(uint32_t number, const lind_call_t *call, shape_t shape)
{
    where_t w;
    uint64_t now = now_ns();
    int error = where(&w, call, shape.dirfd, shape.path, false);
    if (error != 0)
        return error;
    if (!w.mine) {
        lind_unlock(&mu);
        return lind_forward(number, call);
    }
    error = change_locked(number, call, &w, shape, now);
    lind_unlock(&mu);
    return error;
}

// rename and link. first and second are the shapes of their two paths.
static int serve_two(uint32_t number, const lind_call_t *call, shape_t first, shape_t second, bool link)
{
    where_t a, b;
    uint64_t now = now_ns();
    unsigned flags = first.flags < 0 ? 0 : (unsigned)call->arg[first.flags].value;
    int error = where(&a, call, first.dirfd, first.path, link && (flags & AT_EMPTY_PATH_));
    if (error != 0)
        return error;
    lind_unlock(&mu);
    error = where(&b, call, second.dirfd, second.path, false);
    if (error != 0)
        return error;
    // With both texts here and the lock held, the first once more: its directory may have gone.
    error = resolve_locked(&a, call, dirfd_arg(call, first.dirfd), link && (flags & AT_EMPTY_PATH_));
    if (error != 0 || !a.mine || !b.mine) {
        lind_unlock(&mu);
        if (error != 0)
            return error;
        return a.mine || b.mine ? -LIND_EXDEV : lind_forward(number, call);
    }
    memfs_node_t *node;
    if (!link && ((a.how | b.how) & LIND_PATH_IS_DOTS))
        error = -LIND_EBUSY;
    else
        error = find_locked(&a, &node);
    if (error == 0 && (b.how & LIND_PATH_IS_DIR) && !memfs_is_dir(node))
        error = -LIND_ENOTDIR;
    if (error == 0 && link)
        error = memfs_link(&fs, a.from, a.path, b.from, b.path, now);
    else if (error == 0)
        error = memfs_rename(&fs, a.from, a.path, b.from, b.path, flags, now);
    lind_unlock(&mu);
    return error;
}

static int stat_out(lind_arg_t to, const unsigned char *stat)
{
    return lind_copy_out(to, stat, MEMFS_STAT_BYTES);
}

// The two times of utimensat, UINT64_MAX for one that stays.
static int times_in(lind_arg_t from, uint64_t now, uint64_t *times)
{
    lind_timespec_t given[2];
    times[0] = times[1] = now;
    if (from.value == 0)
        return 0;
    if (lind_copy_in(given, from, sizeof given) != 0)
        return -LIND_EFAULT;
    for (int i = 0; i < 2; i++) {
        if (given[i].nanoseconds == UTIME_NOW_)
            continue;
        if (given[i].nanoseconds == UTIME_OMIT_) {
            times[i] = UINT64_MAX;
            continue;
        }
        if (given[i].nanoseconds < 0 || given[i].nanoseconds > 999999999 || given[i].seconds < 0 ||
            given[i].seconds > INT64_MAX / 1000000000 - 1)
            return -LIND_EINVAL;
        times[i] = (uint64_t)given[i].seconds * 1000000000 + (uint64_t)given[i].nanoseconds;
    }
    return 0;
}

// A call on what is at one path, which answers or changes its attributes.
static int attributes_locked(uint32_t number, const lind_call_t *call, shape_t shape, memfs_node_t *node,
                             const uint64_t *times, uint64_t now)
{
    switch (number) {
    case LIND_SYS_ACCESS:
    case LIND_SYS_FACCESSAT:
    case LIND_SYS_FACCESSAT2:
    case LIND_SYS_CHOWN:
    case LIND_SYS_LCHOWN:
    case LIND_SYS_FCHOWNAT:
        return 0;
    case LIND_SYS_CHMOD:
    case LIND_SYS_FCHMODAT:
        memfs_set_mode(node, (uint32_t)call->arg[shape.mode].value, now);
        return 0;
    case LIND_SYS_TRUNCATE:
        if ((int64_t)call->arg[1].value < 0)
            return -LIND_EINVAL;
        return memfs_truncate(&fs, node, call->arg[1].value, now);
    case LIND_SYS_UTIMENSAT:
        memfs_set_times(node, times[0], times[1], now);
        return 0;
    }
    return -LIND_EINVAL; // readlink: nothing here is a link
}

static int serve_attributes(uint32_t number, const lind_call_t *call, shape_t shape)
{
    where_t w;
    uint64_t now = now_ns(), times[2] = {now, now};
    unsigned char stat[MEMFS_STAT_BYTES];
    bool is_stat = number == LIND_SYS_STAT || number == LIND_SYS_LSTAT || number == LIND_SYS_NEWFSTATAT;
    bool empty_is_fd = shape.flags >= 0 && (call->arg[shape.flags].value & AT_EMPTY_PATH_);
    memfs_node_t *node;
    int error;
    if (number == LIND_SYS_UTIMENSAT && call->arg[shape.path].value == 0) { // the descriptor itself
        w.text[0] = 0;
        lind_lock(&mu);
        error = resolve_locked(&w, call, dirfd_arg(call, shape.dirfd), true);
        if (error != 0)
            lind_unlock(&mu);
    } else {
        error = where(&w, call, shape.dirfd, shape.path, empty_is_fd);
    }
    if (error != 0)
        return error;
    if (!w.mine) {
        lind_unlock(&mu);
        return lind_forward(number, call);
    }
    if (number == LIND_SYS_UTIMENSAT)
        error = times_in(call->arg[2], now, times);
    if (error == 0)
        error = w.path[0] ? find_locked(&w, &node) : (node = w.from, 0);
    if (error == 0 && is_stat)
        memfs_stat(node, stat);
    else if (error == 0)
        error = attributes_locked(number, call, shape, node, times, now);
    lind_unlock(&mu);
    if (error == 0 && is_stat)
        error = stat_out(call->arg[shape.mode], stat);
    return error;
}

// A call that would make something that there is not here: a symbolic link, a device.
static int serve_refused(uint32_t number, const lind_call_t *call, shape_t shape)
{
    where_t w;
    memfs_node_t *node;
    int error = where(&w, call, shape.dirfd, shape.path, false);
    if (error != 0)
        return error;
    if (w.mine)
        error = memfs_find(&fs, w.from, w.path, &node) == 0 ? -LIND_EEXIST : -LIND_EPERM;
    lind_unlock(&mu);
    return w.mine ? error : lind_forward(number, call);
}

// --- Reading and writing ----------------------------------------------------------------------------------------------------

// A read or write in flight. The file is pinned.
typedef struct {
    memfs_file_t *file;
    bool write, positioned;
    uint64_t pos;  // if it is positioned
    uint64_t done; // bytes
    uint64_t now;
} transfer_t;

static const char zeros[4096];

// Moves up to COPY_MAX bytes between the file and the caller's buffer: how many, 0 at the end of the file, or an error.
static int move_some(transfer_t *t, lind_arg_t buffer, uint64_t bytes)
{
    int moved = 0, error = 0;
    if (bytes > COPY_MAX)
        bytes = COPY_MAX;
    lind_lock(&mu);
    memfs_node_t *node = t->file->node;
    bool append = t->write && (t->file->flags & MEMFS_APPEND);
    uint64_t pos = append ? memfs_size(node) : t->positioned ? t->pos : t->file->pos;
    while ((uint64_t)moved < bytes) {
        size_t want = (size_t)(bytes - (uint64_t)moved), n;
        lind_arg_t at = {buffer.value + (uint64_t)moved, buffer.cage};
        if (t->write) {
            char *to;
            int room = memfs_write_span(&fs, node, pos, want, &to);
            if (room < 0) {
                error = room;
                break;
            }
            n = (size_t)room;
            error = lind_copy_in(to, at, n);
            memfs_written(node, pos, to, n, error ? 0 : n, t->now);
        } else {
            const char *from;
            n = memfs_read_span(node, pos, want, &from);
            if (n == 0)
                break;
            if (!from && n > sizeof zeros)
                n = sizeof zeros;
            error = lind_copy_out(at, from ? from : zeros, n);
        }
        if (error != 0)
            break;
        pos += n;
        moved += (int)n;
    }
    if (t->positioned)
        t->pos = pos;
    else if (moved > 0)
        t->file->pos = pos;
    lind_unlock(&mu);
    return moved > 0 ? moved : error;
}

// All of one buffer. 1 to go on, 0 at the end of the file, or an error.
static int move_buffer(transfer_t *t, lind_arg_t buffer, uint64_t bytes)
{
    if (bytes > LIND_RW_MAX - t->done)
        bytes = LIND_RW_MAX - t->done;
    while (bytes > 0) {
        int n = move_some(t, buffer, bytes);
        if (n <= 0)
            return n;
        t->done += (uint64_t)n;
        buffer.value += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return t->done < LIND_RW_MAX;
}

// The buffers of an iovec array, each entry copied in once.
static int move_vector(transfer_t *t, const lind_call_t *call)
{
    lind_iovec_t vector[IOVECS_AT_ONCE];
    uint64_t count = call->arg[2].value, owner = lind_iovec_cage(call, 1);
    if (count > LIND_IOV_MAX)
        return -LIND_EINVAL;
    for (uint64_t i = 0; i < count; i += IOVECS_AT_ONCE) {
        uint64_t n = count - i < IOVECS_AT_ONCE ? count - i : IOVECS_AT_ONCE;
        lind_arg_t at = {call->arg[1].value + i * sizeof *vector, call->arg[1].cage};
        if (lind_copy_in(vector, at, n * sizeof *vector) != 0)
            return -LIND_EFAULT;
        for (uint64_t j = 0; j < n; j++) {
            if (vector[j].length > INT64_MAX)
                return -LIND_EINVAL;
            int more = move_buffer(t, (lind_arg_t){vector[j].base, owner}, vector[j].length);
            if (more <= 0)
                return more;
        }
    }
    return 0;
}

static int transfer(uint32_t number, const lind_call_t *call, memfs_file_t *file)
{
    bool vectored = number == LIND_SYS_READV || number == LIND_SYS_WRITEV || number == LIND_SYS_PREADV ||
                    number == LIND_SYS_PWRITEV;
    transfer_t t = {
        .file = file,
        .write = number == LIND_SYS_WRITE || number == LIND_SYS_WRITEV || number == LIND_SYS_PWRITE64 ||
                 number == LIND_SYS_PWRITEV,
        .positioned = number == LIND_SYS_PREAD64 || number == LIND_SYS_PWRITE64 || number == LIND_SYS_PREADV ||
                      number == LIND_SYS_PWRITEV,
        .pos = call->arg[3].value,
    };
    lind_lock(&mu);
    int access = file->flags & MEMFS_ACCMODE;
    bool path_only = (file->flags & MEMFS_PATH) != 0, dir = memfs_is_dir(file->node);
    lind_unlock(&mu);
    if (path_only || (t.write ? access == 0 : access == MEMFS_WRONLY))
        return -LIND_EBADF;
    if (dir)
        return -LIND_EISDIR;
    if (t.positioned && (int64_t)t.pos < 0)
        return -LIND_EINVAL;
    if (t.write)
        t.now = now_ns();
    int error = vectored ? move_vector(&t, call) : move_buffer(&t, call->arg[1], call->arg[2].value);
    return t.done > 0 ? (int)t.done : error < 0 ? error : 0;
}

// --- Other calls on a file's descriptor -----------------------------------------------------------------------------------

static int seek_locked(memfs_file_t *file, int64_t offset, uint64_t whence)
{
    int64_t base = 0, to;
    bool dir = memfs_is_dir(file->node);
    if (file->flags & MEMFS_PATH)
        return -LIND_EBADF;
    if (whence > SEEK_END_ || (dir && whence == SEEK_END_))
        return -LIND_EINVAL;
    if (whence == SEEK_CUR_)
        base = (int64_t)file->pos;
    else if (whence == SEEK_END_)
        base = (int64_t)memfs_size(file->node);
    if (__builtin_add_overflow(base, offset, &to) || to < 0)
        return -LIND_EINVAL;
    if (to > INT32_MAX)
        return dir ? -LIND_EINVAL : -LIND_EOVERFLOW; // a result has 31 bits
    file->pos = (uint64_t)to;
    return (int)to;
}

// getdents64: in pieces, so that no more than one is on the stack. What the caller's memory did not take is not read.
static int list_out(const lind_call_t *call, memfs_file_t *file)
{
    unsigned char buffer[DIRENTS_AT_ONCE];
    uint64_t room = (uint32_t)call->arg[2].value;
    int done = 0;
    lind_lock(&mu);
    while (done < INT32_MAX - DIRENTS_AT_ONCE) {
        uint64_t was = file->pos, left = room - (uint64_t)done;
        int n = memfs_list(file, buffer, left < sizeof buffer ? (size_t)left : sizeof buffer);
        if (n > 0 && lind_copy_out((lind_arg_t){call->arg[1].value + (uint64_t)done, call->arg[1].cage}, buffer,
                                   (uint64_t)n) != 0) {
            file->pos = was;
            n = -LIND_EFAULT;
        }
        if (n <= 0) {
            if (done == 0)
                done = n;
            break;
        }
        done += n;
        if (done >= COPY_MAX)
            break;
    }
    lind_unlock(&mu);
    return done;
}

static int control_locked(const lind_call_t *call, memfs_file_t *file)
{
    enum { CHANGEABLE = MEMFS_APPEND | MEMFS_NONBLOCK };
    int64_t fd = fd_arg(call, 0), from = (int32_t)call->arg[2].value;
    int command = (int)call->arg[1].value, result;
    switch (command) {
    case F_DUPFD_:
    case F_DUPFD_CLOEXEC_:
        if (from < 0)
            return -LIND_EINVAL;
        memfs_ref(file);
        result = cages_add(&cages, call->cage, file, from > FD_BASE ? (int32_t)(from - FD_BASE) : 0,
                           command == F_DUPFD_CLOEXEC_);
        if (result < 0)
            memfs_close(&fs, file);
        return result;
    case F_GETFD_:
        return cages_cloexec(&cages, call->cage, fd);
    case F_SETFD_:
        cages_set_cloexec(&cages, call->cage, fd, call->arg[2].value & 1);
        return 0;
    case F_GETFL_:
        return file->flags;
    case F_SETFL_:
        file->flags = (file->flags & ~CHANGEABLE) | ((int)call->arg[2].value & CHANGEABLE);
        return 0;
    }
    return -LIND_EINVAL;
}

static int allocate_locked(const lind_call_t *call, memfs_file_t *file, uint64_t now)
{
    int64_t offset = (int64_t)call->arg[2].value, length = (int64_t)call->arg[3].value, end;
    if (call->arg[1].value != 0)
        return -LIND_EOPNOTSUPP;
    if ((file->flags & MEMFS_ACCMODE) == 0)
        return -LIND_EBADF;
    if (offset < 0 || length <= 0)
        return -LIND_EINVAL;
    if (__builtin_add_overflow(offset, length, &end) || end > MEMFS_MAX_FILE)
        return -LIND_EFBIG;
    if ((uint64_t)end <= memfs_size(file->node))
        return 0;
    return memfs_truncate(&fs, file->node, (uint64_t)end, now);
}

// A call on a descriptor that is a file in memory. The file is pinned.
static int serve_file(uint32_t number, const lind_call_t *call, memfs_file_t *file)
{
    unsigned char stat[MEMFS_STAT_BYTES];
    uint64_t now = 0;
    int result = 0;
    switch (number) {
    case LIND_SYS_READ:
    case LIND_SYS_WRITE:
    case LIND_SYS_PREAD64:
    case LIND_SYS_PWRITE64:
    case LIND_SYS_READV:
    case LIND_SYS_WRITEV:
    case LIND_SYS_PREADV:
    case LIND_SYS_PWRITEV:
        return transfer(number, call, file);
    case LIND_SYS_GETDENTS64:
        return list_out(call, file);
    case LIND_SYS_IOCTL:
        return -LIND_ENOTTY;
    case LIND_SYS_FTRUNCATE:
    case LIND_SYS_FALLOCATE:
    case SYS_FCHMOD_:
        now = now_ns();
        break;
    }
    lind_lock(&mu);
    switch (number) {
    case LIND_SYS_FSTAT:
        memfs_stat(file->node, stat);
        break;
    case LIND_SYS_LSEEK:
        result = seek_locked(file, (int64_t)call->arg[1].value, call->arg[2].value);
        break;
    case LIND_SYS_FCNTL:
        result = control_locked(call, file);
        break;
    case LIND_SYS_FTRUNCATE:
        if ((int64_t)call->arg[1].value < 0 || (file->flags & MEMFS_ACCMODE) == 0)
            result = -LIND_EINVAL;
        else
            result = memfs_truncate(&fs, file->node, call->arg[1].value, now);
        break;
    case LIND_SYS_FALLOCATE:
        result = allocate_locked(call, file, now);
        break;
    case SYS_FCHMOD_:
        memfs_set_mode(file->node, (uint32_t)call->arg[1].value, now);
        break;
    case LIND_SYS_FSYNC: // memory is as safe as it gets
    case LIND_SYS_FDATASYNC:
    case LIND_SYS_FADVISE64:
    case SYS_FCHOWN_:
        break;
    default:
        result = -ENOTSOCK_;
        break;
    }
    lind_unlock(&mu);
    if (number == LIND_SYS_FSTAT)
        result = stat_out(call->arg[1], stat);
    return result;
}

static int serve_fd(uint32_t number, const lind_call_t *call)
{
    bool closed;
    memfs_file_t *file = pin(call->cage, fd_arg(call, 0), &closed);
    if (file) {
        int result = serve_file(number, call, file);
        unpin(file);
        return result;
    }
    if (closed)
        return -LIND_EBADF;
    int command = (int)call->arg[1].value, result = lind_forward(number, call);
    if (number == LIND_SYS_FCNTL && result >= 0 && (command == F_DUPFD_ || command == F_DUPFD_CLOEXEC_)) {
        lind_lock(&mu);
        fd_t from = cages_get(&cages, call->cage, fd_arg(call, 0));
        cages_set_native(&cages, call->cage, result, from.kind == FD_DIR ? from.path : NULL);
        lind_unlock(&mu);
    }
    return result;
}

// --- close and dup ----------------------------------------------------------------------------------------------------------

static int serve_close(const lind_call_t *call)
{
    int64_t fd = fd_arg(call, 0);
    int result = 0;
    lind_lock(&mu);
    if (fd >= FD_BASE)
        result = cages_close(&cages, call->cage, fd);
    else
        cages_set_native(&cages, call->cage, fd, NULL);
    lind_unlock(&mu);
    return fd >= FD_BASE ? result : lind_forward(LIND_SYS_CLOSE, call);
}

static int serve_dup(const lind_call_t *call)
{
    lind_call_t as_fcntl = *call;
    bool closed;
    memfs_file_t *file = pin(call->cage, fd_arg(call, 0), &closed);
    if (!file && closed)
        return -LIND_EBADF;
    as_fcntl.arg[1] = lind_num(F_DUPFD_);
    as_fcntl.arg[2] = lind_num(0);
    if (!file) {
        int result = lind_forward(LIND_SYS_DUP, call);
        if (result >= 0) {
            lind_lock(&mu);
            fd_t from = cages_get(&cages, call->cage, fd_arg(call, 0));
            cages_set_native(&cages, call->cage, result, from.kind == FD_DIR ? from.path : NULL);
            lind_unlock(&mu);
        }
        return result;
    }
    lind_lock(&mu);
    int result = control_locked(&as_fcntl, file);
    lind_unlock(&mu);
    unpin(file);
    return result;
}

// A call with numbers alone on the caller's native descriptors.
static int native(const lind_call_t *call, uint32_t number, lind_arg_t a1, lind_arg_t a2)
{
    return lind_syscall6(number, call->cage, a1, a2, LIND_NONE, LIND_NONE, LIND_NONE, LIND_NONE);
}

// Sees to it that the native number fd is open, by the end of a pipe if need be, so that nothing else gets it.
static int hold_native(const lind_call_t *call, int64_t fd)
{
    int ends[2];
    if (native(call, LIND_SYS_FCNTL, lind_num(fd), lind_num(F_GETFD_)) >= 0)
        return 0;
    int error = native(call, LIND_SYS_PIPE2, lind_ptr(ends), LIND_NONE);
    if (error < 0)
        return error;
    if (ends[0] != fd && ends[1] != fd)
        error = native(call, LIND_SYS_DUP2, lind_num(ends[0]), lind_num(fd));
    for (int i = 0; i < 2; i++)
        if (ends[i] != fd)
            native(call, LIND_SYS_CLOSE, lind_num(ends[i]), LIND_NONE);
    return error < 0 ? error : 0;
}

static int serve_dup2(uint32_t number, const lind_call_t *call)
{
    int64_t from = fd_arg(call, 0), to = fd_arg(call, 1);
    bool closed, cloexec = number == LIND_SYS_DUP3 && (call->arg[2].value & MEMFS_CLOEXEC);
    int result;
    memfs_file_t *file = pin(call->cage, from, &closed);
    if (!file && (closed || to >= FD_BASE))
        return -LIND_EBADF; // a native file has no number up there
    if (!file) {
        char path[LIND_PATH_MAX] = "";
        result = lind_forward(number, call);
        if (result < 0 || from == to)
            return result;
        lind_lock(&mu);
        fd_t dir = cages_get(&cages, call->cage, from);
        if (dir.kind == FD_DIR)
            memcpy(path, dir.path, strlen(dir.path) + 1); // setting one entry may free another's path
        cages_set_native(&cages, call->cage, to, path[0] ? path : NULL);
        lind_unlock(&mu);
        return result;
    }
    if (from == to) {
        unpin(file);
        return number == LIND_SYS_DUP3 ? -LIND_EINVAL : (int)to;
    }
    if (number == LIND_SYS_DUP3 && (call->arg[2].value & ~(uint64_t)MEMFS_CLOEXEC))
        result = -LIND_EINVAL;
    else
        result = to < 0 || to >= FD_BASE + MAX_FDS ? -LIND_EBADF : to < FD_BASE ? hold_native(call, to) : 0;
    if (result == 0) {
        lind_lock(&mu);
        result = cages_set(&cages, call->cage, to, file, cloexec);
        lind_unlock(&mu);
    }
    if (result == 0)
        return (int)to; // the table has the reference
    unpin(file);
    return result;
}

// --- poll -------------------------------------------------------------------------------------------------------------------

typedef struct {
    int32_t fd;
    int16_t events, got;
} pollfd_t;

// Answers for the files in memory, which are always ready, and makes the others' share of the array: the number of those that
// are this grate's, and in *ready how many of them have something to say.
static int poll_mine(uint64_t cage, pollfd_t *mine, pollfd_t *theirs, uint64_t count, int *ready)
{
    int found = 0;
    *ready = 0;
    lind_lock(&mu);
    for (uint64_t i = 0; i < count; i++) {
        enum { POLLNVAL_ = 0x20 };
        theirs[i] = mine[i];
        fd_t fd = mine[i].fd < 0 ? (fd_t){FD_NATIVE, NULL, NULL} : look_locked(cage, mine[i].fd);
        if (fd.kind != FD_FILE && fd.kind != FD_CLOSED)
            continue;
        found++;
        theirs[i].fd = -1;
        mine[i].got = fd.kind == FD_CLOSED ? POLLNVAL_ : (int16_t)(mine[i].events & POLL_READY);
        if (mine[i].got)
            (*ready)++;
    }
    lind_unlock(&mu);
    return found;
}

static int serve_poll(uint32_t number, const lind_call_t *call)
{
    const lind_timespec_t at_once = {0, 0};
    lind_call_t others = *call;
    uint64_t count = call->arg[1].value;
    int ready, result;
    if (count == 0 || count > POLL_MAX)
        return lind_forward(number, call);
    size_t bytes = (size_t)count * sizeof(pollfd_t);
    pollfd_t *mine = lind_alloc(bytes), *theirs = lind_alloc(bytes);
    if (!mine || !theirs)
        result = -LIND_ENOMEM;
    else if (lind_copy_in(mine, call->arg[0], bytes) != 0)
        result = -LIND_EFAULT;
    else if (poll_mine(call->cage, mine, theirs, count, &ready) == 0)
        result = lind_forward(number, call);
    else {
        others.arg[0] = lind_ptr(theirs);
        if (ready > 0)
            others.arg[2] = number == LIND_SYS_POLL ? lind_num(0) : lind_ptr(&at_once);
        result = lind_forward(number, &others);
        for (uint64_t i = 0; result >= 0 && i < count; i++)
            if (theirs[i].fd == mine[i].fd)
                mine[i].got = theirs[i].got;
        if (result >= 0)
            result = lind_copy_out(call->arg[0], mine, bytes) == 0 ? result + ready : -LIND_EFAULT;
    }
    lind_free(mine, bytes);
    lind_free(theirs, bytes);
    return result;
}

// --- Dispatch ---------------------------------------------------------------------------------------------------------------

static int serve(uint32_t number, const lind_call_t *call)
{
    switch (number) {
    case LIND_SYS_OPEN:
        return serve_open(number, call, (shape_t){-1, 0, 1, 2});
    case LIND_SYS_OPENAT:
        return serve_open(number, call, (shape_t){0, 1, 2, 3});
    case LIND_SYS_CREAT:
        return serve_open(number, call, (shape_t){-1, 0, -1, 1});
    case LIND_SYS_MKDIR:
        return serve_change(number, call, (shape_t){-1, 0, -1, 1});
    case LIND_SYS_MKDIRAT:
        return serve_change(number, call, (shape_t){0, 1, -1, 2});
    case LIND_SYS_RMDIR:
    case LIND_SYS_UNLINK:
        return serve_change(number, call, (shape_t){-1, 0, -1, -1});
    case LIND_SYS_UNLINKAT:
        return serve_change(number, call, (shape_t){0, 1, 2, -1});
    case LIND_SYS_RENAME:
    case LIND_SYS_LINK:
        return serve_two(number, call, (shape_t){-1, 0, -1, -1}, (shape_t){-1, 1, -1, -1}, number == LIND_SYS_LINK);
    case LIND_SYS_RENAMEAT:
        return serve_two(number, call, (shape_t){0, 1, -1, -1}, (shape_t){2, 3, -1, -1}, false);
    case LIND_SYS_RENAMEAT2:
    case LIND_SYS_LINKAT:
        return serve_two(number, call, (shape_t){0, 1, 4, -1}, (shape_t){2, 3, -1, -1}, number == LIND_SYS_LINKAT);
    case LIND_SYS_STAT: // the mode's place has where the structure goes
    case LIND_SYS_LSTAT:
        return serve_attributes(number, call, (shape_t){-1, 0, -1, 1});
    case LIND_SYS_NEWFSTATAT:
        return serve_attributes(number, call, (shape_t){0, 1, 3, 2});
    case LIND_SYS_ACCESS:
    case LIND_SYS_CHMOD:
    case LIND_SYS_CHOWN:
    case LIND_SYS_LCHOWN:
    case LIND_SYS_TRUNCATE:
    case LIND_SYS_READLINK:
        return serve_attributes(number, call, (shape_t){-1, 0, -1, 1});
    case LIND_SYS_FACCESSAT:
    case LIND_SYS_FCHMODAT:
    case LIND_SYS_READLINKAT:
        return serve_attributes(number, call, (shape_t){0, 1, -1, 2});
    case LIND_SYS_FACCESSAT2:
    case LIND_SYS_UTIMENSAT:
        return serve_attributes(number, call, (shape_t){0, 1, 3, 2});
    case LIND_SYS_FCHOWNAT:
        return serve_attributes(number, call, (shape_t){0, 1, 4, 2});
    case LIND_SYS_SYMLINK:
        return serve_refused(number, call, (shape_t){-1, 1, -1, -1});
    case LIND_SYS_SYMLINKAT:
        return serve_refused(number, call, (shape_t){1, 2, -1, -1});
    case LIND_SYS_MKNOD:
        return serve_refused(number, call, (shape_t){-1, 0, -1, -1});
    case LIND_SYS_MKNODAT:
        return serve_refused(number, call, (shape_t){0, 1, -1, -1});
    case LIND_SYS_CLOSE:
        return serve_close(call);
    case LIND_SYS_DUP:
        return serve_dup(call);
    case LIND_SYS_DUP2:
    case LIND_SYS_DUP3:
        return serve_dup2(number, call);
    case LIND_SYS_POLL:
    case LIND_SYS_PPOLL:
        return serve_poll(number, call);
    }
    return serve_fd(number, call);
}

LIND_NUMBERED_HANDLERS(serve);

static const uint16_t served[] = {
    LIND_SYS_OPEN,     LIND_SYS_OPENAT,    LIND_SYS_CREAT,     LIND_SYS_MKDIR,      LIND_SYS_MKDIRAT,   LIND_SYS_RMDIR,
    LIND_SYS_UNLINK,   LIND_SYS_UNLINKAT,  LIND_SYS_RENAME,    LIND_SYS_LINK,       LIND_SYS_RENAMEAT,
    LIND_SYS_LINKAT,   LIND_SYS_RENAMEAT2, LIND_SYS_STAT,      LIND_SYS_LSTAT,      LIND_SYS_NEWFSTATAT,
    LIND_SYS_ACCESS,   LIND_SYS_CHMOD,     LIND_SYS_CHOWN,     LIND_SYS_LCHOWN,     LIND_SYS_TRUNCATE,
    LIND_SYS_READLINK, LIND_SYS_FACCESSAT, LIND_SYS_FCHMODAT,  LIND_SYS_READLINKAT, LIND_SYS_FACCESSAT2,
    LIND_SYS_FCHOWNAT, LIND_SYS_UTIMENSAT, LIND_SYS_SYMLINK,   LIND_SYS_SYMLINKAT,  LIND_SYS_MKNOD,
    LIND_SYS_MKNODAT,  LIND_SYS_CLOSE,     LIND_SYS_DUP,       LIND_SYS_DUP2,       LIND_SYS_DUP3,
    LIND_SYS_POLL,     LIND_SYS_PPOLL,     LIND_SYS_READ,      LIND_SYS_WRITE,      LIND_SYS_PREAD64,
    LIND_SYS_PWRITE64, LIND_SYS_READV,     LIND_SYS_WRITEV,    LIND_SYS_PREADV,     LIND_SYS_PWRITEV,
    LIND_SYS_LSEEK,    LIND_SYS_FSTAT,     LIND_SYS_FCNTL,     LIND_SYS_IOCTL,      LIND_SYS_FSYNC,
    LIND_SYS_FDATASYNC, LIND_SYS_FTRUNCATE, LIND_SYS_FALLOCATE, LIND_SYS_FADVISE64,  LIND_SYS_GETDENTS64,
    SYS_FCHMOD_,       SYS_FCHOWN_,
    // Calls on sockets, which files in memory are not: accept to getpeername, setsockopt, getsockopt, accept4.
    42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 54, 55, 288,
};

// A cage has ended: what it has open is closed.
LIND_HANDLER(serve_end)
{
    lind_lock(&mu);
    cages_drop(&cages, call->arg[0].value);
    lind_unlock(&mu);
    return lind_forward(LIND_CALL_HARSH_CAGE_EXIT, call);
}

// --- Arguments --------------------------------------------------------------------------------------------------------------

// FD=PATH
static bool parse_root(char *text)
{
    uint64_t fd;
    int n = cages.root_count;
    char *path = strchr(text, '=');
    if (!path || n == MAX_ROOTS)
        return false;
    *path++ = 0;
    if (!lind_parse_u64(text, FD_BASE - 1, &fd) || path[0] != '/' ||
        lind_path_join(root_paths[n], "/", path, NULL) != 0)
        return false;
    roots[n] = (root_t){(int32_t)fd, root_paths[n]};
    cages.root_count++;
    return true;
}

static int usage(void)
{
    lind_complain("usage: fs-mem [-d FD=PATH]... [-s MEGABYTES] [-n FILES] MOUNT\n"
                  "  -d  what a directory descriptor of the program is called here (3=/ if not said)\n"
                  "  -s  how much memory files may have, up to 960 (512)\n"
                  "  -n  how many files and directories there may be, up to 4000000 (100000)\n",
                  NULL);
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t child = lind_child_cage(), megabytes = 512, files = 100000;
    const char *at = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-d") == 0 && i + 1 < argc) {
            if (!parse_root(argv[++i]))
                return usage();
        } else if (strcmp(argv[i], "-s") == 0 && i + 1 < argc) {
            if (!lind_parse_u64(argv[++i], 960, &megabytes) || megabytes == 0)
                return usage();
        } else if (strcmp(argv[i], "-n") == 0 && i + 1 < argc) {
            if (!lind_parse_u64(argv[++i], 4000000, &files) || files == 0)
                return usage();
        } else if (argv[i][0] == '/' && !at) {
            at = argv[i];
        } else {
            return usage();
        }
    }
    if (!at || lind_path_join(mount, "/", at, NULL) != 0)
        return usage();
    if (cages.root_count == 0) {
        memcpy(root_paths[0], "/", 2);
        roots[cages.root_count++] = (root_t){3, root_paths[0]};
    }
    if (child == 0) {
        lind_complain("fs-mem: this is a grate: start it with lindbridge run --grate\n", NULL);
        return 2;
    }
    cages.fs = &fs;
    bool ok = memfs_init(&fs, megabytes * MEGABYTE, (uint32_t)files, now_ns()) == 0;
    for (size_t i = 0; ok && i < sizeof served / sizeof *served; i++)
        ok = lind_register_handler(child, served[i], lind_numbered_handlers[served[i]]) == 0;
    ok = ok && lind_register_handler(child, LIND_CALL_HARSH_CAGE_EXIT, serve_end) == 0;
    if (!ok) {
        lind_complain("fs-mem: cannot register handlers\n", NULL);
        return 1;
    }
    if (lind_grate_serve() < 0) {
        lind_complain("fs-mem: cannot serve\n", NULL);
        return 1;
    }
    return 0;
}
