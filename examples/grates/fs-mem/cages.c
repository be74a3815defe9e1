#include "cages.h"

#include "lind_abi.h"
#include "lind_rt.h"

typedef struct {
    memfs_file_t *file; // NULL: free
    bool cloexec;
} slot_t;

// A native descriptor: a file in memory in its place, a directory, or (neither) one that is what it natively is.
typedef struct low {
    struct low *next;
    int64_t fd;
    memfs_file_t *file;
    bool cloexec;
    char *path;
    size_t path_bytes;
} low_t;

struct cage {
    cage_t *next;
    uint64_t id;
    slot_t *slots;
    size_t room;
    low_t *lows;
    uint32_t low_count;
};

enum { FIRST_ROOM = 16 };

static cage_t *find(const cages_t *t, uint64_t id)
{
    cage_t *cage = t->cages;
    while (cage && cage->id != id)
        cage = cage->next;
    return cage;
}

static cage_t *find_or_make(cages_t *t, uint64_t id)
{
    cage_t *cage = find(t, id);
    if (cage || t->count >= MAX_CAGES)
        return cage;
    cage = lind_alloc(sizeof *cage);
    if (!cage)
        return NULL;
    *cage = (cage_t){.next = t->cages, .id = id};
    t->cages = cage;
    t->count++;
    return cage;
}

static low_t *find_low(const cage_t *cage, int64_t fd)
{
    low_t *low = cage ? cage->lows : NULL;
    while (low && low->fd != fd)
        low = low->next;
    return low;
}

static slot_t *slot_of(const cage_t *cage, int64_t fd)
{
    if (!cage || fd < FD_BASE || (uint64_t)(fd - FD_BASE) >= cage->room)
        return NULL;
    return &cage->slots[fd - FD_BASE];
}

fd_t cages_get(const cages_t *t, uint64_t id, int64_t fd)
{
    const cage_t *cage = find(t, id);
    if (fd >= FD_BASE) {
        slot_t *slot = slot_of(cage, fd);
        return slot && slot->file ? (fd_t){FD_FILE, slot->file, NULL} : (fd_t){FD_CLOSED, NULL, NULL};
    }
    low_t *low = find_low(cage, fd);
    if (low && low->file)
        return (fd_t){FD_FILE, low->file, NULL};
    if (low)
        return low->path ? (fd_t){FD_DIR, NULL, low->path} : (fd_t){FD_NATIVE, NULL, NULL};
    for (int i = 0; i < t->root_count; i++)
        if (t->roots[i].fd == fd)
            return (fd_t){FD_DIR, NULL, t->roots[i].path};
    return (fd_t){FD_NATIVE, NULL, NULL};
}

// Makes room for slot n.
static bool grow(cage_t *cage, size_t n)
{
    if (n < cage->room)
        return true;
    size_t room = FIRST_ROOM;
    while (room <= n)
        room *= 2;
    slot_t *slots = lind_alloc(room * sizeof *slots);
    if (!slots)
        return false;
    memset(slots, 0, room * sizeof *slots);
    if (cage->slots)
        memcpy(slots, cage->slots, cage->room * sizeof *slots);
    lind_free(cage->slots, cage->room * sizeof *slots);
    cage->slots = slots;
    cage->room = room;
    return true;
}

int cages_add(cages_t *t, uint64_t id, memfs_file_t *file, int32_t from, bool cloexec)
{
    if (from < 0 || from >= MAX_FDS)
        return -LIND_EINVAL;
    cage_t *cage = find_or_make(t, id);
    if (!cage)
        return -LIND_ENOMEM;
    size_t n = (size_t)from;
    while (n < cage->room && cage->slots[n].file)
        n++;
    if (n >= MAX_FDS)
        return -LIND_EMFILE;
    if (!grow(cage, n))
        return -LIND_ENOMEM;
    cage->slots[n] = (slot_t){file, cloexec};
    return FD_BASE + (int)n;
}

static void drop_file(cages_t *t, memfs_file_t *file)
{
    if (file)
        memfs_close(t->fs, file);
}

static void clear_low(cages_t *t, low_t *low)
{
    drop_file(t, low->file);
    lind_free(low->path, low->path_bytes);
    low->file = NULL;
    low->path = NULL;
    low->path_bytes = 0;
}

// The entry of a native descriptor, made if there is none.
static low_t *low_for(cages_t *t, uint64_t id, int64_t fd)
{
    cage_t *cage = find_or_make(t, id);
    low_t *low = find_low(cage, fd);
    if (low || !cage || cage->low_count >= MAX_LOWS)
        return low;
    low = lind_alloc(sizeof *low);
    if (!low)
        return NULL;
    *low = (low_t){.next = cage->lows, .fd = fd};
    cage->lows = low;
    cage->low_count++;
    return low;
}

int cages_set(cages_t *t, uint64_t id, int64_t fd, memfs_file_t *file, bool cloexec)
{
    if (fd < 0 || fd >= FD_BASE + MAX_FDS)
        return -LIND_EBADF;
    if (fd < FD_BASE) {
        low_t *low = low_for(t, id, fd);
        if (!low)
            return -LIND_ENOMEM;
        clear_low(t, low);
        low->file = file;
        low->cloexec = cloexec;
        return 0;
    }
    cage_t *cage = find_or_make(t, id);
    if (!cage || !grow(cage, (size_t)(fd - FD_BASE)))
        return -LIND_ENOMEM;
    slot_t *slot = slot_of(cage, fd);
    drop_file(t, slot->file);
    *slot = (slot_t){file, cloexec};
    return 0;
}

static bool is_root(const cages_t *t, int64_t fd)
{
    for (int i = 0; i < t->root_count; i++)
        if (t->roots[i].fd == fd)
            return true;
    return false;
}

void cages_set_native(cages_t *t, uint64_t id, int64_t fd, const char *path)
{
    if (fd < 0 || fd >= FD_BASE)
        return;
    cage_t *cage = find(t, id);
    low_t *low = find_low(cage, fd);
    if (!path && !low && !is_root(t, fd))
        return;
    low = low_for(t, id, fd);
    if (!low)
        return;
    clear_low(t, low);
    if (path) {
        low->path_bytes = strlen(path) + 1;
        low->path = lind_alloc(low->path_bytes);
        if (low->path)
            memcpy(low->path, path, low->path_bytes);
        else
            low->path_bytes = 0;
        return;
    }
    if (is_root(t, fd))
        return; // the entry says that it is a root no more
    for (low_t **at = &cage->lows; *at; at = &(*at)->next)
        if (*at == low) {
            *at = low->next;
            cage->low_count--;
            lind_free(low, sizeof *low);
            return;
        }
}

int cages_close(cages_t *t, uint64_t id, int64_t fd)
{
    slot_t *slot = slot_of(find(t, id), fd);
    if (!slot || !slot->file)
        return -LIND_EBADF;
    memfs_file_t *file = slot->file;
    slot->file = NULL;
    drop_file(t, file);
    return 0;
}

bool cages_cloexec(const cages_t *t, uint64_t id, int64_t fd)
{
    const cage_t *cage = find(t, id);
    slot_t *slot = slot_of(cage, fd);
    low_t *low = find_low(cage, fd);
    return slot ? slot->cloexec : low && low->cloexec;
}

void cages_set_cloexec(cages_t *t, uint64_t id, int64_t fd, bool cloexec)
{
    cage_t *cage = find(t, id);
    slot_t *slot = slot_of(cage, fd);
    low_t *low = find_low(cage, fd);
    if (slot)
        slot->cloexec = cloexec;
    else if (low)
        low->cloexec = cloexec;
}

void cages_drop(cages_t *t, uint64_t id)
{
    for (cage_t **at = &t->cages; *at; at = &(*at)->next) {
        cage_t *cage = *at;
        if (cage->id != id)
            continue;
        *at = cage->next;
        t->count--;
        for (size_t i = 0; i < cage->room; i++)
            drop_file(t, cage->slots[i].file);
        lind_free(cage->slots, cage->room * sizeof *cage->slots);
        while (cage->lows) {
            low_t *low = cage->lows;
            cage->lows = low->next;
            clear_low(t, low);
            lind_free(low, sizeof *low);
        }
        lind_free(cage, sizeof *cage);
        return;
    }
}

void cages_free(cages_t *t)
{
    while (t->cages)
        cages_drop(t, t->cages->id);
}
