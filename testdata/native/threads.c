// threads BUSY WAITING READING: a native process with that many threads that spin, wait in a futex, and read standard
// input, which must block. Each writes a byte to standard output when it begins. It ends when it is killed. With no thread
// at all it returns at once. It is the yardstick of the benchmarks: build it with -O2 -static -pthread.
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int never;

static void arrive(void)
{
    if (write(1, "R", 1) != 1)
        _exit(70);
}

static void *spin(void *arg)
{
    arrive();
    for (;;)
        __asm__ volatile("");
    return arg;
}

static void *wait_for_ever(void *arg)
{
    arrive();
    for (;;)
        syscall(SYS_futex, &never, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    return arg;
}

static void *read_for_ever(void *arg)
{
    char byte;
    arrive();
    while (read(0, &byte, 1) >= 0)
        ;
    return arg;
}

int main(int argc, char **argv)
{
    void *(*bodies[])(void *) = {spin, wait_for_ever, read_for_ever};
    void *(*mine)(void *) = NULL;
    for (int kind = 0; kind < 3; kind++) {
        int n = argc > kind + 1 ? atoi(argv[kind + 1]) : 0;
        for (int i = 0; i < n; i++) {
            pthread_t thread;
            if (mine == NULL)
                mine = bodies[kind];
            else if (pthread_create(&thread, NULL, bodies[kind], NULL) != 0)
                return 71;
        }
    }
    if (mine != NULL)
        mine(NULL);
    return 0;
}
