// manyfiles DIR [COUNT]: makes COUNT files (1,000 if not said) in DIR, reads each back, renames each into one of ten
// directories, lists these and checks that every file is there once, and removes all of it again. DIR must be empty, and is
// empty afterwards. Prints one line a step and exits with 0; on a failure it prints what failed and exits with 1.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUCKETS = 10, MAX_FILES = 1000000 };

static void fail(const char *what, const char *path)
{
    fprintf(stderr, "manyfiles: %s %s: %s\n", what, path, strerror(errno));
    exit(1);
}

static void wrong(const char *what, const char *path)
{
    fprintf(stderr, "manyfiles: %s: %s\n", path, what);
    exit(1);
}

static void file_path(char *out, size_t size, const char *dir, int i)
{
    snprintf(out, size, "%s/file-%06d.txt", dir, i);
}

static void bucket_path(char *out, size_t size, const char *dir, int bucket)
{
    snprintf(out, size, "%s/bucket-%d", dir, bucket);
}

static void moved_path(char *out, size_t size, const char *dir, int i)
{
    snprintf(out, size, "%s/bucket-%d/moved-%06d.txt", dir, i % BUCKETS, i);
}

static void make(const char *dir, int count)
{
    char path[512], text[64];
    for (int i = 0; i < count; i++) {
        file_path(path, sizeof path, dir, i);
        int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
        if (fd < 0)
            fail("create", path);
        int n = snprintf(text, sizeof text, "this is file %d\n", i);
        if (write(fd, text, (size_t)n) != n)
            fail("write", path);
        if (close(fd) != 0)
            fail("close", path);
    }
    printf("made %d files\n", count);
}

static void read_back(const char *dir, int count)
{
    char path[512], text[64], got[64];
    long bytes = 0;
    for (int i = 0; i < count; i++) {
        file_path(path, sizeof path, dir, i);
        int fd = open(path, O_RDONLY);
        if (fd < 0)
            fail("open", path);
        int n = snprintf(text, sizeof text, "this is file %d\n", i);
        struct stat st;
        if (fstat(fd, &st) != 0)
            fail("stat", path);
        if (st.st_size != n || !S_ISREG(st.st_mode))
            wrong("wrong size or type", path);
        if (read(fd, got, sizeof got) != n || memcmp(got, text, (size_t)n) != 0)
            wrong("wrong content", path);
        if (read(fd, got, sizeof got) != 0)
            wrong("no end of file", path);
        close(fd);
        bytes += n;
    }
    printf("read %ld bytes back\n", bytes);
}

static void move(const char *dir, int count)
{
    char from[512], to[512];
    for (int b = 0; b < BUCKETS; b++) {
        bucket_path(to, sizeof to, dir, b);
        if (mkdir(to, 0755) != 0)
            fail("mkdir", to);
    }
    for (int i = 0; i < count; i++) {
        file_path(from, sizeof from, dir, i);
        moved_path(to, sizeof to, dir, i);
        if (rename(from, to) != 0)
            fail("rename", from);
        struct stat st;
        if (stat(from, &st) == 0 || errno != ENOENT)
            wrong("still there after its rename", from);
    }
    printf("moved %d files into %d directories\n", count, BUCKETS);
}

static void list(const char *dir, int count)
{
    char path[512];
    char *seen = calloc((size_t)count, 1);
    if (!seen)
        fail("allocate", dir);
    int found = 0;
    for (int b = 0; b < BUCKETS; b++) {
        bucket_path(path, sizeof path, dir, b);
        DIR *d = opendir(path);
        if (!d)
            fail("opendir", path);
        for (;;) {
            errno = 0;
            struct dirent *entry = readdir(d);
            if (!entry) {
                if (errno != 0)
                    fail("readdir", path);
                break;
            }
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                continue;
            int i = -1;
            if (sscanf(entry->d_name, "moved-%d.txt", &i) != 1 || i < 0 || i >= count)
                wrong("a name that was never made", entry->d_name);
            if (i % BUCKETS != b || seen[i])
                wrong("listed twice, or in the wrong directory", entry->d_name);
            seen[i] = 1;
            found++;
        }
        closedir(d);
    }
    free(seen);
    if (found != count) {
        fprintf(stderr, "manyfiles: listed %d of %d files\n", found, count);
        exit(1);
    }
    printf("listed %d files\n", found);
}

static void clean(const char *dir, int count)
{
    char path[512];
    bucket_path(path, sizeof path, dir, 0);
    if (rmdir(path) == 0 || errno != ENOTEMPTY)
        wrong("a directory with files in it was removed", path);
    for (int i = 0; i < count; i++) {
        moved_path(path, sizeof path, dir, i);
        if (unlink(path) != 0)
            fail("unlink", path);
    }
    for (int b = 0; b < BUCKETS; b++) {
        bucket_path(path, sizeof path, dir, b);
        if (rmdir(path) != 0)
            fail("rmdir", path);
    }
    printf("removed all\n");
}

int main(int argc, char **argv)
{
    int count = argc > 2 ? atoi(argv[2]) : 1000;
    if (argc < 2 || count < BUCKETS || count > MAX_FILES) {
        fprintf(stderr, "usage: manyfiles DIR [COUNT]    COUNT: %d to %d\n", BUCKETS, MAX_FILES);
        return 2;
    }
    make(argv[1], count);
    read_back(argv[1], count);
    move(argv[1], count);
    list(argv[1], count);
    clean(argv[1], count);
    return 0;
}
