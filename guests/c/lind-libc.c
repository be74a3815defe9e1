// lind-libc: a program of WASI's C library that makes calls of the Lind ABI too: prints its cage and its effective user.
#include <inttypes.h>
#include <stdio.h>

#include "lind.h"

int main(void)
{
    int uid = lind_syscall0(LIND_SYS_GETEUID);
    printf("cage %" PRIu64 ", euid %d\n", lind_cage_id(), uid);
    return uid < 0;
}
