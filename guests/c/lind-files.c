// lind-files [DIR]: works with files by system calls of the Lind ABI alone, in the directory DIR ("." if not said) of the
// first one that it was given (descriptor 3): makes, writes, reads in several ways, lists, renames and removes again. It
// checks each answer, prints one line at the end and exits with 0; or it prints what was wrong and exits with 1.
#include "lind.h"
#include "lind_rt.h"

enum {
    DIR_FD = 3,
    O_RDWR = 02,
    O_CREAT = 0100,
    O_EXCL = 0200,
    O_DIRECTORY = 0200000,
    O_APPEND = 02000,
    AT_REMOVEDIR = 0x200,
    SEEK_SET = 0,
    SEEK_END = 2,
    STAT_BYTES = 144,
    STAT_SIZE = 48,
    LARGE = 100000,
};

static const char *dir = ".";
static int checks;
static char large[LARGE], back[LARGE];

static void expect(int result, int want, const char *what)
{
    checks++;
    if (result == want)
        return;
    char buffer[256];
    lind_text_t line = LIND_TEXT(buffer);
    lind_put(&line, "lind-files: ");
    lind_put(&line, what);
    lind_put(&line, " answered ");
    lind_put_i64(&line, result);
    lind_put(&line, ", not ");
    lind_put_i64(&line, want);
    lind_put(&line, "\n");
    lind_flush(&line, 2);
    lind_exit(1);
}

static void expect_ok(int result, const char *what)
{
    expect(result < 0 ? result : 0, 0, what);
}

// DIR/name. Good until it is called twice more.
static const char *under(const char *name)
{
    static char paths[2][LIND_PATH_MAX];
    static int next;
    char *path = paths[next++ % 2];
    lind_text_t text = {path, LIND_PATH_MAX - 1, 0, false};
    lind_put(&text, dir);
    lind_put(&text, "/");
    lind_put(&text, name);
    if (text.cut)
        lind_exit(2);
    path[text.length] = 0;
    return path;
}

static lind_arg_t path_arg(const char *name)
{
    return lind_ptr(under(name));
}

static void check_io(int fd)
{
    char stat[STAT_BYTES], a[4] = "abc", b[4] = "", c[8] = "";
    uint64_t size;
    expect(lind_write(fd, "0123456789", 10), 10, "write");
    expect(lind_syscall3(LIND_SYS_LSEEK, lind_num(fd), lind_num(4), lind_num(SEEK_SET)), 4, "lseek");
    expect(lind_read(fd, c, 3), 3, "read");
    expect(memcmp(c, "456", 3), 0, "what was read");
    expect(lind_syscall4(LIND_SYS_PREAD64, lind_num(fd), lind_ptr(c), lind_num(8), lind_num(8)), 2, "pread64 at the end");
    expect(lind_syscall4(LIND_SYS_PWRITE64, lind_num(fd), lind_ptr("XY"), lind_num(2), lind_num(12)), 2, "pwrite64");
    lind_iovec_t vector[2] = {{lind_address(b), 1}, {lind_address(c), 6}};
    expect(lind_syscall4(LIND_SYS_PREADV, lind_num(fd), lind_ptr(vector), lind_num(2), lind_num(8)), 6, "preadv");
    expect(b[0] == '8' && memcmp(c, "9\0\0XY", 5) == 0, 1, "what preadv read, a hole with it");
    vector[0] = (lind_iovec_t){lind_address(a), 3};
    vector[1] = (lind_iovec_t){lind_address(a), 2};
    expect(lind_syscall3(LIND_SYS_LSEEK, lind_num(fd), lind_num(0), lind_num(SEEK_END)), 14, "lseek to the end");
    expect(lind_syscall3(LIND_SYS_WRITEV, lind_num(fd), lind_ptr(vector), lind_num(2)), 5, "writev");
    expect(lind_syscall2(LIND_SYS_FSTAT, lind_num(fd), lind_ptr(stat)), 0, "fstat");
    memcpy(&size, stat + STAT_SIZE, sizeof size);
    expect((int)size, 19, "the size");
    for (int i = 0; i < LARGE; i++)
        large[i] = (char)(i * 7 + i / 251);
    for (int done = 0, n; done < LARGE; done += n) {
        n = lind_syscall4(LIND_SYS_PWRITE64, lind_num(fd), lind_ptr(large + done), lind_num(LARGE - done),
                          lind_num(done));
        expect(n > 0, 1, "pwrite64 of much");
    }
    for (int done = 0, n; done < LARGE; done += n) {
        n = lind_syscall4(LIND_SYS_PREAD64, lind_num(fd), lind_ptr(back + done), lind_num(LARGE - done), lind_num(done));
        expect(n > 0, 1, "pread64 of much");
    }
    expect(memcmp(large, back, LARGE), 0, "what pread64 read of much");
    expect(lind_syscall2(LIND_SYS_FTRUNCATE, lind_num(fd), lind_num(3)), 0, "ftruncate");
    expect(lind_syscall4(LIND_SYS_PREAD64, lind_num(fd), lind_ptr(c), lind_num(8), lind_num(0)), 3, "pread64 of the rest");
}

static void check_descriptors(int fd)
{
    char c[4];
    int twin = lind_syscall1(LIND_SYS_DUP, lind_num(fd));
    expect_ok(twin, "dup");
    expect(lind_syscall3(LIND_SYS_LSEEK, lind_num(fd), lind_num(1), lind_num(SEEK_SET)), 1, "lseek");
    expect(lind_read(twin, c, 1), 1, "read by the copy");
    expect(c[0], large[1], "what the copy read: it shares the position");
    expect(lind_close(twin), 0, "close of the copy");
    expect(lind_read(twin, c, 1), -LIND_EBADF, "read of what is closed");
    expect(lind_syscall2(LIND_SYS_DUP2, lind_num(fd), lind_num(20)), 20, "dup2 to a number that is free");
    expect(lind_syscall4(LIND_SYS_PREAD64, lind_num(20), lind_ptr(c), lind_num(1), lind_num(2)), 1, "pread64 by it");
    expect(c[0], large[2], "what was read by it");
    expect(lind_close(20), 0, "close of it");
    expect(lind_read(20, c, 1), -LIND_EBADF, "read of it");
    struct {
        int32_t fd;
        int16_t events, got;
    } poll[2] = {{fd, 1, 0}, {-1, 1, 0}};
    const lind_timespec_t hour = {3600, 0};
    expect(lind_syscall4(LIND_SYS_PPOLL, lind_ptr(poll), lind_num(2), lind_ptr(&hour), LIND_NONE), 1, "ppoll of a file");
    expect(poll[0].got, 1, "what ppoll said");
}

static int list(const char *name)
{
    char buffer[512];
    int found = 0, n, fd = lind_openat(DIR_FD, under(name), O_DIRECTORY, 0);
    expect_ok(fd, "openat of a directory");
    while ((n = lind_syscall3(LIND_SYS_GETDENTS64, lind_num(fd), lind_ptr(buffer), lind_num(sizeof buffer))) > 0)
        for (int at = 0; at < n;) {
            uint16_t length;
            memcpy(&length, buffer + at + 16, sizeof length);
            expect(length >= 24 && at + length <= n, 1, "an entry of getdents64");
            found += buffer[at + 19] != '.';
            at += length;
        }
    expect(n, 0, "getdents64");
    expect(lind_close(fd), 0, "close");
    return found;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        dir = argv[1];
    expect(lind_syscall3(LIND_SYS_MKDIRAT, lind_num(DIR_FD), path_arg("lind"), lind_num(0755)), 0, "mkdirat");
    expect(lind_syscall3(LIND_SYS_MKDIRAT, lind_num(DIR_FD), path_arg("lind"), lind_num(0755)), -LIND_EEXIST,
           "mkdirat again");
    int fd = lind_openat(DIR_FD, under("lind/one"), O_RDWR | O_CREAT | O_EXCL, 0644);
    expect_ok(fd, "openat");
    expect(lind_openat(DIR_FD, under("lind/one"), O_RDWR | O_CREAT | O_EXCL, 0644), -LIND_EEXIST, "openat with O_EXCL");
    expect(lind_openat(DIR_FD, under("lind/none"), O_RDWR, 0), -LIND_ENOENT, "openat of nothing");
    check_io(fd);
    check_descriptors(fd);
    expect(lind_close(fd), 0, "close");
    for (char name[] = "lind/a"; name[5] <= 'z'; name[5]++) {
        fd = lind_openat(DIR_FD, under(name), O_RDWR | O_CREAT | O_APPEND, 0644);
        expect_ok(fd, "openat of one of many");
        expect(lind_close(fd), 0, "close of one of many");
    }
    expect(list("lind"), 27, "the number of entries");
    expect(lind_syscall4(LIND_SYS_RENAMEAT, lind_num(DIR_FD), path_arg("lind/one"), lind_num(DIR_FD), path_arg("lind/a")),
           0, "renameat");
    expect(list("lind"), 26, "the number of entries after renameat");
    expect(lind_syscall3(LIND_SYS_UNLINKAT, lind_num(DIR_FD), path_arg("lind"), lind_num(AT_REMOVEDIR)), -LIND_ENOTEMPTY,
           "unlinkat of a directory with entries");
    for (char name[] = "lind/a"; name[5] <= 'z'; name[5]++)
        expect(lind_syscall3(LIND_SYS_UNLINKAT, lind_num(DIR_FD), path_arg(name), LIND_NONE), 0, "unlinkat");
    expect(lind_syscall3(LIND_SYS_UNLINKAT, lind_num(DIR_FD), path_arg("lind"), lind_num(AT_REMOVEDIR)), 0,
           "unlinkat of the directory");
    char buffer[64];
    lind_text_t line = LIND_TEXT(buffer);
    lind_put(&line, "lind-files: ");
    lind_put_i64(&line, checks);
    lind_put(&line, " answers as expected\n");
    return lind_flush(&line, 1) ? 0 : 1;
}
