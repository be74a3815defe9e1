// native CROWD: a contestant of `make bench`: processes of the host. It answers requests as package drive has them: a line
// of words, the last one the number of samples, answered by a line of JSON. CROWD is testdata/native/threads.c, built.
//
//   geteuid N                          a system call that does nothing, 10,000 of them for each sample
//   spawn posix_spawn|fork|vfork N     a process that ends at once, until it is waited for
//   kill BUSY WAITING READING N        kill -9 of a process with so many threads, until it is waited for
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CALLS = 10000, SILENT = 3, MAX_WORDS = 8 };

static char *crowd;    // the program
static int arrived[2]; // where its threads say that they are there

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

// Lets threads that have just said that they are there get to where they spin or wait.
static void settle(void)
{
    const struct timespec ms = {.tv_nsec = 1000000};
    nanosleep(&ms, NULL);
}

static void await(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            fail("waitpid");
}

static double geteuid_ns(void)
{
    double begin = now();
    for (int i = 0; i < CALLS; i++)
        syscall(SYS_geteuid);
    return (now() - begin) / CALLS;
}

static pid_t spawn(char **argv, int in, int out)
{
    extern char **environ;
    posix_spawn_file_actions_t files;
    pid_t pid;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in, 0);
    posix_spawn_file_actions_adddup2(&files, out, 1);
    if ((errno = posix_spawn(&pid, argv[0], &files, NULL, argv, environ)) != 0)
        fail("posix_spawn");
    posix_spawn_file_actions_destroy(&files);
    return pid;
}

static double spawn_ns(const char *how, int null)
{
    char *argv[] = {crowd, NULL};
    double begin = now();
    pid_t pid;
    if (strcmp(how, "posix_spawn") == 0)
        pid = spawn(argv, null, null);
    else if (strcmp(how, "fork") == 0)
        pid = fork();
    else
        pid = vfork();
    if (pid == 0)
        _exit(0);
    if (pid < 0)
        fail(how);
    await(pid);
    return now() - begin;
}

static double kill_ns(char **counts)
{
    char *argv[] = {crowd, counts[0], counts[1], counts[2], NULL};
    char bytes[64];
    int left = 0;
    for (int i = 0; i < 3; i++)
        left += atoi(counts[i]);
    pid_t pid = spawn(argv, SILENT, arrived[1]);
    while (left > 0) {
        ssize_t n = read(arrived[0], bytes, left < 64 ? (size_t)left : 64);
        if (n <= 0)
            fail("read");
        left -= (int)n;
    }
    settle();
    double begin = now();
    if (kill(pid, SIGKILL) != 0)
        fail("kill");
    await(pid);
    return now() - begin;
}

int main(int argc, char **argv)
{
    char line[256], *words[MAX_WORDS];
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (argc != 2 || null < 0 || pipe2(arrived, O_CLOEXEC) != 0)
        return 2;
    crowd = argv[1];
    while (fgets(line, sizeof line, stdin) != NULL) {
        int count = 0;
        for (char *w = strtok(line, " \n"); w != NULL && count < MAX_WORDS; w = strtok(NULL, " \n"))
            words[count++] = w;
        int geteuid_asked = count == 2 && strcmp(words[0], "geteuid") == 0;
        int spawn_asked = count == 3 && strcmp(words[0], "spawn") == 0;
        int kill_asked = count == 5 && strcmp(words[0], "kill") == 0;
        if (!geteuid_asked && !spawn_asked && !kill_asked) {
            puts("{\"error\":\"no such request\"}");
        } else {
            int n = atoi(words[count - 1]);
            fputs("{\"ns\":[", stdout);
            for (int i = 0; i < n; i++) {
                double ns;
                if (geteuid_asked)
                    ns = geteuid_ns();
                else if (spawn_asked)
                    ns = spawn_ns(words[1], null);
                else
                    ns = kill_ns(words + 1);
                printf("%s%.1f", i == 0 ? "" : ",", ns);
            }
            puts("]}");
        }
        fflush(stdout);
    }
    return 0;
}
