// hello: shows what a program is given. Prints its arguments and its environment, one a line, then copies standard
// input to standard output. Exits with 0, or with 1 if a read or a write fails.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static int copy_all(int from, int to)
{
    char buffer[4096];
    for (;;) {
        ssize_t n = read(from, buffer, sizeof buffer);
        if (n == 0)
            return 0;
        if (n < 0) {
            fprintf(stderr, "hello: read: %s\n", strerror(errno));
            return 1;
        }
        for (ssize_t done = 0; done < n;) {
            ssize_t w = write(to, buffer + done, (size_t)(n - done));
            if (w < 0) {
                fprintf(stderr, "hello: write: %s\n", strerror(errno));
                return 1;
            }
            done += w;
        }
    }
}

int main(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        printf("arg %d: %s\n", i, argv[i]);
    for (char **e = environ; *e; e++)
        printf("env: %s\n", *e);
    if (fflush(stdout) != 0)
        return 1;
    return copy_all(STDIN_FILENO, STDOUT_FILENO);
}
