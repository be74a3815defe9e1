#include "memfs.h"

#include "lind_abi.h"
#include "lind_rt.h"

enum {
    MODE_TYPE = 0170000,
    MODE_DIR = 0040000,
    MODE_FILE = 0100000,
    MODE_BITS = 0777,
    UMASK = 022,
    TYPE_DIR = 4, // DT_DIR and DT_REG
    TYPE_FILE = 8,
    MAX_LINKS = 65000,
    FIRST_BLOCK_MIN = 64,
    DIRENT_HEADER = 19, // ino u64, off i64, reclen u16, type u8; then the name and its NUL
    OFF_DOT = 1,        // d_off behind ".", and behind ".."; entries follow
    OFF_DOTDOT = 2,
};

// A file or directory. It lives as long as a name or an open file is left.
struct memfs_node {
    uint64_t ino, size;
    uint64_t atime, mtime, ctime;
    uint32_t mode;
    uint32_t links; // names; of a directory 2 and its subdirectories, or 0 when it was removed
    uint32_t opens;

    // Of a file. The first block is only as large as it has to be, so that small files are small.
    char *first;
    size_t first_bytes;
    char **blocks; // those behind it: blocks[i] is block i+1
    size_t block_room;

    // Of a directory.
    memfs_node_t *parent; // the root is its own
    memfs_entry_t *head, *tail;
    uint64_t next_off;
    uint32_t entries;
};

struct memfs_entry {
    memfs_entry_t *next, *prev; // of the directory, in the order of off
    memfs_entry_t *same;        // of the bucket
    memfs_node_t *dir, *node;
    uint64_t off; // d_off
    uint16_t length;
    char name[];
};

// --- Memory that counts ---------------------------------------------------------------------------------------------------

static void *take(memfs_t *fs, size_t bytes)
{
    uint64_t cost = lind_alloc_size(bytes);
    if (cost > fs->max_bytes - fs->bytes)
        return NULL;
    void *p = lind_alloc(bytes);
    if (p) {
        memset(p, 0, bytes);
        fs->bytes += cost;
    }
    return p;
}

static void give(memfs_t *fs, void *p, size_t bytes)
{
    if (!p)
        return;
    lind_free(p, bytes);
    fs->bytes -= lind_alloc_size(bytes);
}

// --- Nodes ----------------------------------------------------------------------------------------------------------------

bool memfs_is_dir(const memfs_node_t *node)
{
    return (node->mode & MODE_TYPE) == MODE_DIR;
}

uint64_t memfs_size(const memfs_node_t *node)
{
    return node->size;
}

static memfs_node_t *new_node(memfs_t *fs, uint32_t mode, uint64_t now)
{
    if (fs->nodes >= fs->max_nodes)
        return NULL;
    memfs_node_t *node = take(fs, sizeof *node);
    if (!node)
        return NULL;
    fs->nodes++;
    node->ino = fs->next_ino++;
    node->mode = mode;
    node->atime = node->mtime = node->ctime = now;
    node->next_off = OFF_DOTDOT + 1;
    return node;
}

// Frees the blocks from number first_gone on.
static void free_blocks(memfs_t *fs, memfs_node_t *node, uint64_t first_gone)
{
    if (first_gone == 0) {
        give(fs, node->first, node->first_bytes);
        node->first = NULL;
        node->first_bytes = 0;
        first_gone = 1;
    }
    for (size_t i = (size_t)(first_gone - 1); i < node->block_room; i++) {
        give(fs, node->blocks[i], MEMFS_BLOCK);
        node->blocks[i] = NULL;
    }
    if (first_gone == 1) {
        give(fs, node->blocks, node->block_room * sizeof *node->blocks);
        node->blocks = NULL;
        node->block_room = 0;
    }
}

static void drop_if_unused(memfs_t *fs, memfs_node_t *node)
{
    if (node->links > 0 || node->opens > 0)
        return;
    free_blocks(fs, node, 0);
    give(fs, node, sizeof *node);
    fs->nodes--;
}

// --- Names ----------------------------------------------------------------------------------------------------------------

static memfs_entry_t **bucket(memfs_t *fs, const memfs_node_t *dir, const char *name, size_t length)
{
    uint64_t hash = dir->ino * UINT64_C(0x9e3779b97f4a7c15);
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)name[i]) * UINT64_C(0x100000001b3);
    return &fs->buckets[(hash ^ hash >> 29) % MEMFS_BUCKETS];
}

static memfs_entry_t *look_up(memfs_t *fs, const memfs_node_t *dir, const char *name, size_t length)
{
    for (memfs_entry_t *e = *bucket(fs, dir, name, length); e; e = e->same)
        if (e->dir == dir && e->length == length && memcmp(e->name, name, length) == 0)
            return e;
    return NULL;
}

static size_t entry_bytes(size_t length)
{
    return sizeof(memfs_entry_t) + length + 1;
}

// Gives node a name in dir. The caller counts its links.
static int add_entry(memfs_t *fs, memfs_node_t *dir, const char *name, size_t length, memfs_node_t *node, uint64_t now)
{
    memfs_entry_t *e = take(fs, entry_bytes(length));
    if (!e)
        return -LIND_ENOSPC;
    memfs_entry_t **b = bucket(fs, dir, name, length);
    e->dir = dir;
    e->node = node;
    e->off = dir->next_off++;
    e->length = (uint16_t)length;
    memcpy(e->name, name, length);
    e->same = *b;
    *b = e;
    e->prev = dir->tail;
    if (dir->tail)
        dir->tail->next = e;
    else
        dir->head = e;
    dir->tail = e;
    dir->entries++;
    dir->mtime = dir->ctime = now;
    if (memfs_is_dir(node)) {
        node->parent = dir;
        dir->links++;
    }
    return 0;
}

// Takes a name away. The caller counts the links of what it named.
static void remove_entry(memfs_t *fs, memfs_entry_t *e, uint64_t now)
{
    memfs_node_t *dir = e->dir;
    memfs_entry_t **at = bucket(fs, dir, e->name, e->length);
    while (*at != e)
        at = &(*at)->same;
    *at = e->same;
    if (e->prev)
        e->prev->next = e->next;
    else
        dir->head = e->next;
    if (e->next)
        e->next->prev = e->prev;
    else
        dir->tail = e->prev;
    dir->entries--;
    dir->mtime = dir->ctime = now;
    if (memfs_is_dir(e->node))
        dir->links--;
    give(fs, e, entry_bytes(e->length));
}

// Where a path leads to: the directory of its last component, that component, and what has that name, or NULL.
typedef struct {
    memfs_node_t *dir;
    const char *name;
    size_t length; // 0: the path is the directory that it is looked at from, and entry is NULL
    memfs_entry_t *entry;
} place_t;

static int walk(memfs_t *fs, memfs_node_t *from, const char *path, place_t *place)
{
    *place = (place_t){from, path, 0, NULL};
    if (from->links == 0)
        return -LIND_ENOENT;
    while (*path) {
        if (*path == '/') {
            path++;
            continue;
        }
        size_t n = 0;
        while (path[n] && path[n] != '/')
            n++;
        if (place->length > 0) { // what came before has to be a directory
            if (!place->entry)
                return -LIND_ENOENT;
            place->dir = place->entry->node;
        }
        if (!memfs_is_dir(place->dir))
            return -LIND_ENOTDIR;
        place->name = path;
        place->length = n;
        place->entry = look_up(fs, place->dir, path, n);
        path += n;
    }
    return 0;
}

// What is at a place, or NULL.
static memfs_node_t *node_at(const place_t *place)
{
    if (place->length == 0)
        return place->dir;
    return place->entry ? place->entry->node : NULL;
}

int memfs_find(memfs_t *fs, memfs_node_t *from, const char *path, memfs_node_t **node)
{
    place_t place;
    int error = walk(fs, from, path, &place);
    if (error != 0)
        return error;
    *node = node_at(&place);
    return *node ? 0 : -LIND_ENOENT;
}

int memfs_init(memfs_t *fs, uint64_t max_bytes, uint32_t max_nodes, uint64_t now)
{
    memset(fs, 0, sizeof *fs);
    fs->max_bytes = max_bytes;
    fs->max_nodes = max_nodes;
    fs->next_ino = 1;
    fs->root = new_node(fs, MODE_DIR | 0755, now);
    if (!fs->root)
        return -LIND_ENOSPC;
    fs->root->links = 2;
    fs->root->parent = fs->root;
    return 0;
}

void memfs_free(memfs_t *fs)
{
    // The first name of the innermost directory, again and again: no recursion, however deep the tree is.
    memfs_node_t *dir = fs->root;
    while (dir) {
        memfs_entry_t *e = dir->head;
        if (e && memfs_is_dir(e->node) && e->node->head) {
            dir = e->node;
        } else if (e) {
            memfs_node_t *node = e->node;
            remove_entry(fs, e, 0);
            node->links = memfs_is_dir(node) ? 0 : node->links - 1;
            drop_if_unused(fs, node);
        } else {
            dir = dir == fs->root ? NULL : dir->parent;
        }
    }
    fs->root->links = 0;
    drop_if_unused(fs, fs->root);
    fs->root = NULL;
}

// --- Open files -------------------------------------------------------------------------------------------------------------

// Makes a file or an empty directory at a place that is free.
static int make(memfs_t *fs, const place_t *place, uint32_t mode, uint64_t now, memfs_node_t **made)
{
    memfs_node_t *node = new_node(fs, mode, now);
    if (!node)
        return -LIND_ENOSPC;
    node->links = memfs_is_dir(node) ? 2 : 1;
    int error = add_entry(fs, place->dir, place->name, place->length, node, now);
    if (error != 0) {
        node->links = 0;
        drop_if_unused(fs, node);
        return error;
    }
    *made = node;
    return 0;
}

int memfs_open(memfs_t *fs, memfs_node_t *from, const char *path, int flags, uint32_t mode, uint64_t now,
               memfs_file_t **file)
{
    place_t place;
    if ((flags & MEMFS_TMPFILE) == MEMFS_TMPFILE)
        return -LIND_EOPNOTSUPP;
    if ((flags & MEMFS_ACCMODE) == MEMFS_ACCMODE)
        return -LIND_EINVAL;
    if (flags & MEMFS_PATH)
        flags &= MEMFS_PATH | MEMFS_DIRECTORY | MEMFS_CLOEXEC;
    if ((flags & MEMFS_CREAT) && (flags & MEMFS_DIRECTORY))
        return -LIND_EINVAL;
    int error = walk(fs, from, path, &place);
    if (error != 0)
        return error;
    memfs_node_t *node = node_at(&place);
    bool is_new = false;
    if (node && (flags & MEMFS_CREAT) && (flags & MEMFS_EXCL))
        return -LIND_EEXIST;
    if (!node && !(flags & MEMFS_CREAT))
        return -LIND_ENOENT;
    bool writes = (flags & MEMFS_ACCMODE) != 0 && !(flags & MEMFS_PATH);
    if (node && memfs_is_dir(node) && (writes || (flags & (MEMFS_CREAT | MEMFS_TRUNC))))
        return -LIND_EISDIR;
    if (node && !memfs_is_dir(node) && (flags & MEMFS_DIRECTORY))
        return -LIND_ENOTDIR;
    memfs_file_t *opened = lind_alloc(sizeof *opened);
    if (!opened)
        return -LIND_ENOMEM;
    if (!node) {
        error = make(fs, &place, MODE_FILE | (mode & MODE_BITS & ~(uint32_t)UMASK), now, &node);
        is_new = true;
    }
    if (error == 0 && !is_new && (flags & MEMFS_TRUNC))
        error = memfs_truncate(fs, node, 0, now);
    if (error != 0) {
        lind_free(opened, sizeof *opened);
        return error;
    }
    *opened = (memfs_file_t){
        .node = node,
        .flags = flags & (MEMFS_ACCMODE | MEMFS_APPEND | MEMFS_NONBLOCK | MEMFS_DIRECTORY | MEMFS_PATH),
        .refs = 1,
    };
    node->opens++;
    *file = opened;
    return 0;
}

void memfs_ref(memfs_file_t *file)
{
    file->refs++;
}

void memfs_close(memfs_t *fs, memfs_file_t *file)
{
    if (--file->refs > 0)
        return;
    memfs_node_t *node = file->node;
    lind_free(file, sizeof *file);
    node->opens--;
    drop_if_unused(fs, node);
}

// --- The tree ---------------------------------------------------------------------------------------------------------------

int memfs_mkdir(memfs_t *fs, memfs_node_t *from, const char *path, uint32_t mode, uint64_t now)
{
    place_t place;
    memfs_node_t *made;
    int error = walk(fs, from, path, &place);
    if (error != 0)
        return error;
    if (node_at(&place))
        return -LIND_EEXIST;
    return make(fs, &place, MODE_DIR | (mode & MODE_BITS & ~(uint32_t)UMASK), now, &made);
}

// A name less for what e names, which is no directory with entries.
static void unname(memfs_t *fs, memfs_entry_t *e, uint64_t now)
{
    memfs_node_t *node = e->node;
    remove_entry(fs, e, now);
    node->links = memfs_is_dir(node) ? 0 : node->links - 1;
    node->ctime = now;
    drop_if_unused(fs, node);
}

int memfs_unlink(memfs_t *fs, memfs_node_t *from, const char *path, uint64_t now)
{
    place_t place;
    int error = walk(fs, from, path, &place);
    if (error != 0)
        return error;
    if (place.length == 0)
        return -LIND_EISDIR;
    if (!place.entry)
        return -LIND_ENOENT;
    if (memfs_is_dir(place.entry->node))
        return -LIND_EISDIR;
    unname(fs, place.entry, now);
    return 0;
}

int memfs_rmdir(memfs_t *fs, memfs_node_t *from, const char *path, uint64_t now)
{
    place_t place;
    int error = walk(fs, from, path, &place);
    if (error != 0)
        return error;
    if (place.length == 0)
        return -LIND_EBUSY;
    if (!place.entry)
        return -LIND_ENOENT;
    if (!memfs_is_dir(place.entry->node))
        return -LIND_ENOTDIR;
    if (place.entry->node->entries > 0)
        return -LIND_ENOTEMPTY;
    unname(fs, place.entry, now);
    return 0;
}

// Whether node is dir or lies beneath it.
static bool is_within(const memfs_node_t *node, const memfs_node_t *dir)
{
    for (;; node = node->parent) {
        if (node == dir)
            return true;
        if (node->parent == node)
            return false;
    }
}

int memfs_rename(memfs_t *fs, memfs_node_t *from, const char *path, memfs_node_t *to_from, const char *to,
                 unsigned flags, uint64_t now)
{
    place_t old, new;
    int error = walk(fs, from, path, &old);
    if (error == 0)
        error = walk(fs, to_from, to, &new);
    if (error != 0)
        return error;
    if (flags & ~(unsigned)MEMFS_RENAME_NOREPLACE)
        return -LIND_EINVAL;
    if (old.length == 0 || new.length == 0)
        return -LIND_EBUSY;
    if (!old.entry)
        return -LIND_ENOENT;
    memfs_node_t *moved = old.entry->node, *there = new.entry ? new.entry->node : NULL;
    if (!memfs_is_dir(new.dir))
        return -LIND_ENOTDIR;
    if (there && (flags & MEMFS_RENAME_NOREPLACE))
        return -LIND_EEXIST;
    if (memfs_is_dir(moved) && is_within(new.dir, moved))
        return -LIND_EINVAL;
    if (there == moved)
        return 0; // two names of one file: both stay, as POSIX has it
    if (there && memfs_is_dir(there) && !memfs_is_dir(moved))
        return -LIND_EISDIR;
    if (there && !memfs_is_dir(there) && memfs_is_dir(moved))
        return -LIND_ENOTDIR;
    if (there && memfs_is_dir(there) && there->entries > 0)
        return -LIND_ENOTEMPTY;
    // The new name first: that is what can fail, and nothing has changed then.
    error = add_entry(fs, new.dir, new.name, new.length, moved, now);
    if (error != 0)
        return error;
    remove_entry(fs, old.entry, now);
    if (memfs_is_dir(moved))
        moved->parent = new.dir;
    moved->ctime = now;
    if (there)
        unname(fs, new.entry, now);
    return 0;
}

int memfs_link(memfs_t *fs, memfs_node_t *from, const char *path, memfs_node_t *to_from, const char *to, uint64_t now)
{
    place_t old, new;
    int error = walk(fs, from, path, &old);
    memfs_node_t *node = error == 0 ? node_at(&old) : NULL;
    if (error == 0 && !node)
        error = -LIND_ENOENT;
    if (error == 0)
        error = walk(fs, to_from, to, &new);
    if (error != 0)
        return error;
    if (node_at(&new))
        return -LIND_EEXIST;
    if (memfs_is_dir(node))
        return -LIND_EPERM;
    if (node->links >= MAX_LINKS)
        return -LIND_EMLINK;
    error = add_entry(fs, new.dir, new.name, new.length, node, now);
    if (error != 0)
        return error;
    node->links++;
    node->ctime = now;
    return 0;
}

// --- Data -------------------------------------------------------------------------------------------------------------------

size_t memfs_read_span(const memfs_node_t *node, uint64_t pos, size_t max, const char **data)
{
    *data = NULL;
    if (pos >= node->size)
        return 0;
    uint64_t block = pos / MEMFS_BLOCK;
    size_t at = (size_t)(pos % MEMFS_BLOCK), n = MEMFS_BLOCK - at;
    const char *from = NULL;
    if (block == 0) {
        if (at < node->first_bytes) {
            from = node->first;
            n = node->first_bytes - at;
        }
    } else if (block - 1 < node->block_room) {
        from = node->blocks[block - 1];
    }
    if (n > max)
        n = max;
    if (n > node->size - pos)
        n = (size_t)(node->size - pos);
    if (from)
        *data = from + at;
    return n;
}

// Makes the first block at least bytes long.
static bool grow_first(memfs_t *fs, memfs_node_t *node, size_t bytes)
{
    if (bytes <= node->first_bytes)
        return true;
    size_t size = FIRST_BLOCK_MIN;
    while (size < bytes)
        size *= 2;
    char *first = take(fs, size);
    if (!first)
        return false;
    if (node->first)
        memcpy(first, node->first, node->first_bytes);
    give(fs, node->first, node->first_bytes);
    node->first = first;
    node->first_bytes = size;
    return true;
}

// Makes room for the pointers to blocks 1 to block.
static bool grow_blocks(memfs_t *fs, memfs_node_t *node, uint64_t block)
{
    if (block <= node->block_room)
        return true;
    size_t room = 16;
    while (room < block)
        room *= 2;
    char **blocks = take(fs, room * sizeof *blocks);
    if (!blocks)
        return false;
    if (node->blocks)
        memcpy(blocks, node->blocks, node->block_room * sizeof *blocks);
    give(fs, node->blocks, node->block_room * sizeof *blocks);
    node->blocks = blocks;
    node->block_room = room;
    return true;
}

int memfs_write_span(memfs_t *fs, memfs_node_t *node, uint64_t pos, size_t max, char **data)
{
    if (pos >= MEMFS_MAX_FILE)
        return -LIND_EFBIG;
    if (max > MEMFS_MAX_FILE - pos)
        max = (size_t)(MEMFS_MAX_FILE - pos);
    uint64_t block = pos / MEMFS_BLOCK;
    size_t at = (size_t)(pos % MEMFS_BLOCK), n = MEMFS_BLOCK - at;
    if (n > max)
        n = max;
    if (block == 0) {
        if (!grow_first(fs, node, at + n))
            return -LIND_ENOSPC;
        *data = node->first + at;
        return (int)n;
    }
    if (!grow_blocks(fs, node, block))
        return -LIND_ENOSPC;
    char **there = &node->blocks[block - 1];
    if (!*there)
        *there = take(fs, MEMFS_BLOCK);
    if (!*there)
        return -LIND_ENOSPC;
    *data = *there + at;
    return (int)n;
}

void memfs_written(memfs_node_t *node, uint64_t pos, char *data, size_t room, size_t done, uint64_t now)
{
    if (done < room) { // what is behind the end of a file is zeros
        uint64_t from = pos + done > node->size ? pos + done : node->size;
        if (from < pos + room)
            memset(data + (size_t)(from - pos), 0, (size_t)(pos + room - from));
    }
    if (done == 0)
        return;
    if (pos + done > node->size)
        node->size = pos + done;
    node->mtime = node->ctime = now;
}

int memfs_truncate(memfs_t *fs, memfs_node_t *node, uint64_t size, uint64_t now)
{
    if (memfs_is_dir(node))
        return -LIND_EISDIR;
    if (size > MEMFS_MAX_FILE)
        return -LIND_EFBIG;
    if (size < node->size) {
        free_blocks(fs, node, (size + MEMFS_BLOCK - 1) / MEMFS_BLOCK);
        // The block that the end is in keeps no old bytes behind it.
        uint64_t block = size / MEMFS_BLOCK;
        size_t at = (size_t)(size % MEMFS_BLOCK);
        if (block == 0) {
            if (at < node->first_bytes)
                memset(node->first + at, 0, node->first_bytes - at);
        } else if (block - 1 < node->block_room && node->blocks[block - 1]) {
            memset(node->blocks[block - 1] + at, 0, MEMFS_BLOCK - at);
        }
    }
    node->size = size;
    node->mtime = node->ctime = now;
    return 0;
}

// --- Attributes and lists ---------------------------------------------------------------------------------------------------

static void put(unsigned char *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        out[i] = (unsigned char)(value >> (8 * i));
}

void memfs_stat(const memfs_node_t *node, unsigned char out[MEMFS_STAT_BYTES])
{
    enum { DEV = 0x6d656d, SECOND = 1000000000 }; // a device of its own: what is here is on no other
    const uint64_t times[] = {node->atime, node->mtime, node->ctime};
    memset(out, 0, MEMFS_STAT_BYTES);
    put(out, DEV, 8);
    put(out + 8, node->ino, 8);
    put(out + 16, node->links, 8);
    put(out + 24, node->mode, 4);
    put(out + 48, node->size, 8);
    put(out + 56, MEMFS_BLOCK, 8);
    put(out + 64, (node->size + 511) / 512, 8);
    for (int i = 0; i < 3; i++) {
        put(out + 72 + 16 * i, times[i] / SECOND, 8);
        put(out + 80 + 16 * i, times[i] % SECOND, 8);
    }
}

void memfs_set_times(memfs_node_t *node, uint64_t atime, uint64_t mtime, uint64_t now)
{
    if (atime != UINT64_MAX)
        node->atime = atime;
    if (mtime != UINT64_MAX)
        node->mtime = mtime;
    node->ctime = now;
}

void memfs_set_mode(memfs_node_t *node, uint32_t mode, uint64_t now)
{
    node->mode = (node->mode & MODE_TYPE) | (mode & MODE_BITS);
    node->ctime = now;
}

// One linux_dirent64, if it fits: its bytes, or 0.
static size_t put_dirent(unsigned char *out, size_t room, uint64_t ino, uint64_t off, int type, const char *name,
                         size_t length)
{
    size_t bytes = (DIRENT_HEADER + length + 1 + 7) & ~(size_t)7;
    if (bytes > room)
        return 0;
    memset(out, 0, bytes);
    put(out, ino, 8);
    put(out + 8, off, 8);
    put(out + 16, bytes, 2);
    put(out + 18, (uint64_t)type, 1);
    memcpy(out + DIRENT_HEADER, name, length);
    return bytes;
}

int memfs_list(memfs_file_t *file, unsigned char *out, size_t room)
{
    memfs_node_t *dir = file->node;
    size_t done = 0, n;
    if (!memfs_is_dir(dir))
        return -LIND_ENOTDIR;
    if (dir->links == 0)
        return -LIND_ENOENT;
    if (room > INT32_MAX)
        room = INT32_MAX;
    for (; file->pos < OFF_DOTDOT; file->pos++, done += n) {
        bool dot = file->pos < OFF_DOT;
        n = put_dirent(out + done, room - done, dot ? dir->ino : dir->parent->ino, dot ? OFF_DOT : OFF_DOTDOT, TYPE_DIR,
                       "..", dot ? 1 : 2);
        if (n == 0)
            return done > 0 ? (int)done : -LIND_EINVAL;
    }
    for (memfs_entry_t *e = dir->head; e; e = e->next) {
        if (e->off <= file->pos)
            continue;
        n = put_dirent(out + done, room - done, e->node->ino, e->off, memfs_is_dir(e->node) ? TYPE_DIR : TYPE_FILE,
                       e->name, e->length);
        if (n == 0)
            return done > 0 ? (int)done : -LIND_EINVAL;
        file->pos = e->off;
        done += n;
    }
    return (int)done;
}
