#include "fdpaths.h"

#include "lind_abi.h"

struct fdpath {
    fdpath_t *next;
    uint64_t cage;
    int32_t fd;
    uint32_t size; // bytes of this structure with its path
    char path[];
};

static fdpath_t **bucket(fdpaths_t *t, uint64_t cage, int32_t fd)
{
    uint64_t hash = (cage * UINT64_C(0x9e3779b97f4a7c15)) ^ ((uint64_t)(uint32_t)fd * UINT64_C(0xd1342543de82ef95));
    return &t->buckets[(hash >> 40) % FDPATHS_BUCKETS];
}

// Takes the entry that *at points to out of its list. The caller holds mu.
static void take_locked(fdpaths_t *t, fdpath_t **at)
{
    fdpath_t *entry = *at;
    *at = entry->next;
    t->count--;
    lind_free(entry, entry->size);
}

// Where the entry of fd is pointed to from, or where its list ends. The caller holds mu.
static fdpath_t **find_locked(fdpaths_t *t, uint64_t cage, int32_t fd)
{
    fdpath_t **at = bucket(t, cage, fd);
    while (*at && ((*at)->cage != cage || (*at)->fd != fd))
        at = &(*at)->next;
    return at;
}

void fdpaths_set(fdpaths_t *t, uint64_t cage, int32_t fd, const char *path)
{
    size_t bytes = strlen(path) + 1;
    uint32_t size = (uint32_t)(sizeof(fdpath_t) + bytes);
    fdpath_t *entry = bytes <= LIND_PATH_MAX ? lind_alloc(size) : NULL;
    lind_lock(&t->mu);
    fdpath_t **at = find_locked(t, cage, fd);
    if (*at)
        take_locked(t, at);
    bool keep = entry && t->count < FDPATHS_MAX;
    if (keep) {
        at = bucket(t, cage, fd);
        entry->next = *at;
        entry->cage = cage;
        entry->fd = fd;
        entry->size = size;
        memcpy(entry->path, path, bytes);
        *at = entry;
        t->count++;
    }
    lind_unlock(&t->mu);
    if (!keep)
        lind_free(entry, size);
}

bool fdpaths_get(fdpaths_t *t, uint64_t cage, int32_t fd, char *out)
{
    lind_lock(&t->mu);
    fdpath_t *entry = *find_locked(t, cage, fd);
    if (entry)
        memcpy(out, entry->path, strlen(entry->path) + 1);
    lind_unlock(&t->mu);
    return entry != NULL;
}

void fdpaths_drop(fdpaths_t *t, uint64_t cage, int32_t fd)
{
    lind_lock(&t->mu);
    fdpath_t **at = find_locked(t, cage, fd);
    if (*at)
        take_locked(t, at);
    lind_unlock(&t->mu);
}

void fdpaths_drop_cage(fdpaths_t *t, uint64_t cage)
{
    lind_lock(&t->mu);
    for (int i = 0; i < FDPATHS_BUCKETS; i++)
        for (fdpath_t **at = &t->buckets[i]; *at;)
            if ((*at)->cage == cage)
                take_locked(t, at);
            else
                at = &(*at)->next;
    lind_unlock(&t->mu);
}
