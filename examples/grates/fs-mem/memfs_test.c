// The file system of the fs-mem grate against the host's own: the same random operations on both must answer the same and
// leave the same; and its limits, and its descriptors.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cages.h"
#include "lind_abi.h"
#include "lind_host.h"
#include "lind_path.h"
#include "lind_rt.h"
#include "memfs.h"

enum { OPEN_FILES = 6, DATA = 70000, OPERATIONS = 150000 };

typedef struct {
    memfs_file_t *mine;
    int theirs;
} pair_t;

static memfs_t fs;
static int root; // the host's directory
static pair_t files[OPEN_FILES];
static unsigned char data[DATA], got[DATA], expected[DATA];

static int pick(int n)
{
    return rand() % n;
}

// A path of up to four components of few names, so that they meet often. out is for memfs, and &out[1] for the host.
static void random_path(char *out)
{
    char raw[64] = "";
    for (int n = 1 + pick(4); n > 0; n--) {
        static const char *const names[] = {"a", "b", "c", "d"};
        strcat(raw, names[pick(4)]);
        if (n > 1)
            strcat(raw, "/");
    }
    CHECK(lind_path_join(out, "/", raw, NULL) == 0);
}

static int answer(int result)
{
    return result < 0 ? -errno : result;
}

static void same(int mine, int theirs, const char *what, const char *path)
{
    // Linux checks some things in another order where two of them are wrong.
    if (mine == theirs || (mine < 0 && theirs < 0 && strcmp(what, "rename") == 0))
        return;
    fprintf(stderr, "%s %s: %d here, %d on the host\n", what, path, mine, theirs);
    abort();
}

static void check_stat(const memfs_node_t *node, const struct stat *want)
{
    unsigned char st[MEMFS_STAT_BYTES];
    uint64_t size, links;
    uint32_t mode;
    memfs_stat(node, st);
    memcpy(&links, st + 16, 8);
    memcpy(&mode, st + 24, 4);
    memcpy(&size, st + 48, 8);
    CHECK((mode & 0170000) == (want->st_mode & 0170000));
    CHECK(S_ISDIR(want->st_mode) || (size == (uint64_t)want->st_size && links == want->st_nlink));
}

static void do_open(void)
{
    static const int choices[] = {0, O_RDWR, O_CREAT | O_RDWR, O_CREAT | O_EXCL | O_WRONLY, O_TRUNC | O_RDWR,
                                  O_CREAT | O_TRUNC | O_RDWR | O_APPEND, O_DIRECTORY};
    char path[LIND_PATH_MAX];
    pair_t *p = &files[pick(OPEN_FILES)];
    int flags = choices[pick(7)];
    random_path(path);
    if (p->mine) {
        memfs_close(&fs, p->mine);
        close(p->theirs);
    }
    p->mine = NULL;
    int mine = memfs_open(&fs, fs.root, path, flags, 0644, 1, &p->mine);
    p->theirs = answer(openat(root, path + 1, flags, 0644));
    same(mine, p->theirs < 0 ? p->theirs : 0, "open", path);
    if (mine < 0)
        p->mine = NULL;
}

static size_t read_mine(const memfs_node_t *node, uint64_t pos, size_t bytes)
{
    size_t done = 0, n;
    const char *from;
    while (done < bytes && (n = memfs_read_span(node, pos + done, bytes - done, &from)) > 0) {
        if (from)
            memcpy(got + done, from, n);
        else
            memset(got + done, 0, n);
        done += n;
    }
    return done;
}

static void do_data(void)
{
    pair_t *p = &files[pick(OPEN_FILES)];
    if (!p->mine || memfs_is_dir(p->mine->node))
        return;
    bool small = pick(2);
    uint64_t pos = (uint64_t)pick(small ? 100 : 200000);
    size_t bytes = (size_t)pick(small ? 100 : DATA);
    if ((p->mine->flags & O_ACCMODE) != O_RDONLY && pick(2)) {
        for (size_t i = 0; i < bytes; i++)
            data[i] = (unsigned char)rand();
        if (p->mine->flags & O_APPEND)
            pos = memfs_size(p->mine->node);
        for (size_t done = 0; done < bytes;) {
            char *to;
            int room = memfs_write_span(&fs, p->mine->node, pos + done, bytes - done, &to);
            CHECK(room > 0);
            // Now and then the caller's memory is bad: room that is not written must not show.
            size_t n = pick(50) == 0 ? (size_t)pick(room) : (size_t)room;
            memset(to, 0xee, (size_t)room);
            memcpy(to, data + done, n);
            memfs_written(p->mine->node, pos + done, to, (size_t)room, n, 2);
            // What lay under a hole that was scribbled on inside the file is the caller's own doing: write it after all.
            if (n < (size_t)room)
                continue;
            done += n;
        }
        CHECK(pwrite(p->theirs, data, bytes, (off_t)pos) == (ssize_t)bytes);
    } else if ((p->mine->flags & O_ACCMODE) != O_RDONLY && pick(3) == 0) {
        CHECK(memfs_truncate(&fs, p->mine->node, pos, 3) == 0);
        CHECK(ftruncate(p->theirs, (off_t)pos) == 0);
    } else if ((p->mine->flags & O_ACCMODE) != O_WRONLY) {
        ssize_t n = pread(p->theirs, expected, bytes, (off_t)pos);
        CHECK(n >= 0 && read_mine(p->mine->node, pos, bytes) == (size_t)n);
        CHECK(memcmp(got, expected, (size_t)n) == 0);
    }
}

static void do_tree(void)
{
    char path[LIND_PATH_MAX], to[LIND_PATH_MAX];
    struct stat st;
    memfs_node_t *node;
    random_path(path);
    random_path(to);
    switch (pick(6)) {
    case 0:
        same(memfs_mkdir(&fs, fs.root, path, 0755, 1), answer(mkdirat(root, path + 1, 0755)), "mkdir", path);
        break;
    case 1:
        same(memfs_unlink(&fs, fs.root, path, 1), answer(unlinkat(root, path + 1, 0)), "unlink", path);
        break;
    case 2:
        same(memfs_rmdir(&fs, fs.root, path, 1), answer(unlinkat(root, path + 1, AT_REMOVEDIR)), "rmdir", path);
        break;
    case 3:
        same(memfs_rename(&fs, fs.root, path, fs.root, to, 0, 1), answer(renameat(root, path + 1, root, to + 1)),
             "rename", path);
        break;
    case 4:
        same(memfs_link(&fs, fs.root, path, fs.root, to, 1), answer(linkat(root, path + 1, root, to + 1, 0)), "link",
             path);
        break;
    case 5: {
        int mine = memfs_find(&fs, fs.root, path, &node);
        same(mine, answer(fstatat(root, path + 1, &st, 0)), "stat", path);
        if (mine == 0)
            check_stat(node, &st);
        break;
    }
    }
}

// Compares the whole of both trees, and answers how many names there are.
static int compare(const char *path)
{
    unsigned char buffer[256];
    memfs_file_t *dir;
    int count = 0, n;
    char sub[LIND_PATH_MAX];
    struct stat st;
    CHECK(memfs_open(&fs, fs.root, path, O_DIRECTORY, 0, 1, &dir) == 0);
    while ((n = memfs_list(dir, buffer, sizeof buffer)) > 0)
        for (int at = 0; at < n;) {
            const char *name = (const char *)buffer + at + 19;
            uint16_t length;
            memcpy(&length, buffer + at + 16, 2);
            CHECK(length % 8 == 0 && at + length <= n && strlen(name) + 20 <= length);
            at += length;
            if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
                continue;
            memfs_node_t *node;
            snprintf(sub, sizeof sub, "%s/%s", strcmp(path, "/") == 0 ? "" : path, name);
            CHECK(memfs_find(&fs, fs.root, sub, &node) == 0 && fstatat(root, sub + 1, &st, 0) == 0);
            check_stat(node, &st);
            count += 1 + (memfs_is_dir(node) ? compare(sub) : 0);
        }
    CHECK(n == 0);
    memfs_close(&fs, dir);
    return count;
}

static int count_host(int at)
{
    int count = 0;
    DIR *dir = fdopendir(at);
    CHECK(dir != NULL);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        count++;
        if (e->d_type == DT_DIR)
            count += count_host(openat(dirfd(dir), e->d_name, O_RDONLY | O_DIRECTORY));
    }
    closedir(dir);
    return count;
}

static void test_like_the_host(void)
{
    CHECK(mkdir("tree", 0755) == 0 && (root = open("tree", O_RDONLY | O_DIRECTORY)) >= 0);
    CHECK(memfs_init(&fs, UINT64_C(1) << 30, 100000, 1) == 0);
    srand(3);
    for (int i = 0; i < OPERATIONS; i++) {
        int kind = pick(10);
        if (kind < 2)
            do_open();
        else if (kind < 4)
            do_data();
        else
            do_tree();
        if (i % 5000 == 0)
            CHECK(compare("/") == count_host(openat(root, ".", O_RDONLY | O_DIRECTORY)));
    }
    for (int i = 0; i < OPEN_FILES; i++)
        if (files[i].mine) {
            memfs_close(&fs, files[i].mine);
            close(files[i].theirs);
        }
    memfs_free(&fs);
    CHECK(fs.bytes == 0 && fs.nodes == 0 && host_live() == 0);
    close(root);
}

// Whatever fails for want of memory leaves everything as it was, and nothing is lost.
static void test_without_memory(void)
{
    for (long allowed = 0; allowed < 40; allowed++) {
        memfs_file_t *file = NULL;
        char *to;
        CHECK(memfs_init(&fs, 1 << 20, 1000, 1) == 0);
        host_fail_after(allowed);
        bool made = memfs_mkdir(&fs, fs.root, "/d", 0755, 1) == 0;
        int opened = memfs_open(&fs, fs.root, made ? "/d/f" : "/f", O_CREAT | O_RDWR, 0644, 1, &file);
        if (opened == 0) {
            for (uint64_t pos = 0; pos < 200000; pos += 9999)
                if (memfs_write_span(&fs, file->node, pos, 10, &to) > 0)
                    memfs_written(file->node, pos, to, 10, 10, 1);
            memfs_rename(&fs, fs.root, made ? "/d/f" : "/f", fs.root, "/g", 0, 1);
            memfs_link(&fs, fs.root, "/g", fs.root, "/h", 1);
        }
        host_fail_after(-1);
        if (opened == 0)
            memfs_close(&fs, file);
        memfs_free(&fs);
        CHECK(fs.bytes == 0 && fs.nodes == 0 && host_live() == 0);
    }
}

static void test_limits(void)
{
    memfs_file_t *file, *second;
    memfs_node_t *node;
    unsigned char small[20];
    char *to;
    CHECK(memfs_init(&fs, 100000, 3, 1) == 0);
    CHECK(memfs_mkdir(&fs, fs.root, "/a", 0755, 1) == 0);
    CHECK(memfs_open(&fs, fs.root, "/f", O_CREAT | O_RDWR, 0644, 1, &file) == 0);
    CHECK(memfs_mkdir(&fs, fs.root, "/b", 0755, 1) == -LIND_ENOSPC);
    CHECK(memfs_open(&fs, fs.root, "/g", O_CREAT | O_RDWR, 0644, 1, &second) == -LIND_ENOSPC);
    int result = 0;
    for (uint64_t pos = 0; result >= 0; pos += (uint64_t)result)
        if ((result = memfs_write_span(&fs, file->node, pos, 4096, &to)) > 0)
            memfs_written(file->node, pos, to, (size_t)result, (size_t)result, 1);
    CHECK(result == -LIND_ENOSPC && fs.bytes <= fs.max_bytes && memfs_size(file->node) > 50000);
    CHECK(memfs_truncate(&fs, file->node, 0, 1) == 0);
    CHECK(memfs_write_span(&fs, file->node, MEMFS_MAX_FILE, 1, &to) == -LIND_EFBIG);
    CHECK(memfs_truncate(&fs, file->node, (uint64_t)MEMFS_MAX_FILE + 1, 1) == -LIND_EFBIG);
    CHECK(memfs_truncate(&fs, file->node, MEMFS_MAX_FILE, 1) == 0);
    // A file lives until it is closed, and has no name meanwhile.
    CHECK(memfs_unlink(&fs, fs.root, "/f", 1) == 0);
    CHECK(memfs_find(&fs, fs.root, "/f", &node) == -LIND_ENOENT && fs.nodes == 3);
    memfs_close(&fs, file);
    CHECK(fs.nodes == 2);
    // A directory that is gone has nothing and takes nothing.
    CHECK(memfs_open(&fs, fs.root, "/a", O_DIRECTORY, 0, 1, &file) == 0);
    CHECK(memfs_list(file, small, sizeof small) == -LIND_EINVAL); // 24 bytes are the least
    CHECK(memfs_rmdir(&fs, fs.root, "/a", 1) == 0);
    CHECK(memfs_mkdir(&fs, file->node, "/x", 0755, 1) == -LIND_ENOENT);
    CHECK(memfs_list(file, data, sizeof data) == -LIND_ENOENT);
    memfs_close(&fs, file);
    memfs_free(&fs);
    CHECK(fs.bytes == 0 && host_live() == 0);
}

static memfs_file_t *open_dir(void)
{
    memfs_file_t *file;
    CHECK(memfs_open(&fs, fs.root, "/", O_DIRECTORY, 0, 1, &file) == 0);
    return file;
}

static void test_descriptors(void)
{
    static const root_t roots[] = {{3, "/"}, {4, "/mem"}};
    cages_t t = {.fs = &fs, .roots = roots, .root_count = 2};
    CHECK(memfs_init(&fs, 1 << 20, 10, 1) == 0);
    CHECK(cages_get(&t, 7, 3).kind == FD_DIR && strcmp(cages_get(&t, 7, 4).path, "/mem") == 0);
    CHECK(cages_get(&t, 7, 5).kind == FD_NATIVE && cages_get(&t, 7, -1).kind == FD_NATIVE);
    CHECK(cages_get(&t, 7, FD_BASE).kind == FD_CLOSED && cages_get(&t, 7, INT32_MAX).kind == FD_CLOSED);
    // The lowest free number; each cage has its own.
    CHECK(cages_add(&t, 7, open_dir(), 0, false) == FD_BASE);
    CHECK(cages_add(&t, 7, open_dir(), 0, true) == FD_BASE + 1);
    CHECK(cages_add(&t, 7, open_dir(), 100, false) == FD_BASE + 100);
    CHECK(cages_get(&t, 8, FD_BASE).kind == FD_CLOSED);
    CHECK(!cages_cloexec(&t, 7, FD_BASE) && cages_cloexec(&t, 7, FD_BASE + 1));
    CHECK(cages_close(&t, 7, FD_BASE) == 0 && cages_close(&t, 7, FD_BASE) == -LIND_EBADF);
    CHECK(cages_close(&t, 7, FD_BASE + 5000) == -LIND_EBADF && cages_close(&t, 7, 3) == -LIND_EBADF);
    CHECK(cages_add(&t, 7, open_dir(), 0, false) == FD_BASE);
    // In the place of native numbers, of roots too.
    CHECK(cages_set(&t, 7, 1, open_dir(), true) == 0 && cages_get(&t, 7, 1).kind == FD_FILE);
    CHECK(cages_set(&t, 7, 3, open_dir(), false) == 0 && cages_get(&t, 7, 3).kind == FD_FILE);
    CHECK(cages_cloexec(&t, 7, 1));
    cages_set_native(&t, 7, 1, NULL);
    cages_set_native(&t, 7, 3, NULL);
    CHECK(cages_get(&t, 7, 1).kind == FD_NATIVE && cages_get(&t, 7, 3).kind == FD_NATIVE);
    CHECK(cages_get(&t, 8, 3).kind == FD_DIR);
    cages_set_native(&t, 7, 9, "/up");
    CHECK(strcmp(cages_get(&t, 7, 9).path, "/up") == 0);
    CHECK(cages_set(&t, 7, FD_BASE + 7, open_dir(), false) == 0);
    memfs_file_t *file = open_dir();
    CHECK(cages_set(&t, 7, FD_BASE + MAX_FDS, file, false) == -LIND_EBADF);
    CHECK(cages_add(&t, 7, file, MAX_FDS, false) == -LIND_EINVAL);
    // As many as there may be.
    int last = 0;
    memfs_ref(file);
    while ((last = cages_add(&t, 7, file, 0, false)) >= 0)
        memfs_ref(file);
    CHECK(last == -LIND_EMFILE);
    memfs_close(&fs, file);
    memfs_close(&fs, file);
    cages_drop(&t, 7);
    cages_drop(&t, 7);
    CHECK(t.count == 0);
    for (uint64_t id = 0; id < MAX_CAGES; id++)
        CHECK(cages_add(&t, id, open_dir(), 0, false) == FD_BASE);
    file = open_dir();
    CHECK(cages_add(&t, MAX_CAGES, file, 0, false) == -LIND_ENOMEM);
    memfs_close(&fs, file);
    cages_free(&t);
    memfs_free(&fs);
    CHECK(t.count == 0 && fs.bytes == 0 && host_live() == 0);
}

int main(void)
{
    test_like_the_host();
    test_without_memory();
    test_limits();
    test_descriptors();
    return 0;
}
