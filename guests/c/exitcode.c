// exitcode CODE [HOW]: ends with CODE. HOW is "return" (from main, the default), "exit" (which runs atexit handlers and
// flushes, as return does), or "_exit" (which does neither). What "return" and "exit" leave in stdout's buffer must arrive.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void at_exit(void)
{
    printf("at exit\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: exitcode CODE [return|exit|_exit]\n");
        return 2;
    }
    int code = atoi(argv[1]);
    const char *how = argc > 2 ? argv[2] : "return";
    setvbuf(stdout, NULL, _IOFBF, 4096);
    if (atexit(at_exit) != 0)
        return 3;
    printf("ending with %d by %s\n", code, how);
    if (strcmp(how, "exit") == 0)
        exit(code);
    if (strcmp(how, "_exit") == 0)
        _exit(code);
    return code;
}
