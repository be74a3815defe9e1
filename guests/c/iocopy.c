// iocopy FROM TO [BLOCK]: copies a file with read and write calls of BLOCK bytes (65536 if not said) and prints how many
// bytes. For measuring fd_read and fd_write: it does nothing else. Built for the host as well, it is its own yardstick.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what, const char *path)
{
    fprintf(stderr, "iocopy: %s %s: %s\n", what, path, strerror(errno));
    return 1;
}

int main(int argc, char **argv)
{
    long block = argc > 3 ? atol(argv[3]) : 65536;
    if (argc < 3 || block < 1 || block > 1L << 26) {
        fprintf(stderr, "usage: iocopy FROM TO [BLOCK]    BLOCK: 1 to %ld bytes\n", 1L << 26);
        return 2;
    }
    char *buffer = malloc((size_t)block);
    if (!buffer)
        return fail("allocate for", argv[1]);
    int from = open(argv[1], O_RDONLY);
    if (from < 0)
        return fail("open", argv[1]);
    int to = open(argv[2], O_CREAT | O_TRUNC | O_WRONLY, 0644);
    if (to < 0)
        return fail("create", argv[2]);
    long long total = 0;
    for (;;) {
        ssize_t n = read(from, buffer, (size_t)block);
        if (n < 0)
            return fail("read", argv[1]);
        if (n == 0)
            break;
        for (ssize_t done = 0; done < n;) {
            ssize_t w = write(to, buffer + done, (size_t)(n - done));
            if (w < 0)
                return fail("write", argv[2]);
            done += w;
        }
        total += n;
    }
    if (close(to) != 0)
        return fail("close", argv[2]);
    printf("%lld bytes\n", total);
    return 0;
}
