// lind-hostile [DIR]: makes system calls with arguments that make no sense: addresses outside its memory, of other cages and
// past its end, lengths of 4 GiB and more, strings without a NUL, descriptors and calls that there are not; alone or above
// grates, which see them first. Whatever answers must answer an error and go on. DIR, below descriptor 3, is where it may try
// to open files ("." if not said). Prints how many calls it made and exits with 0, or with 1 if one of them did succeed.
#include "lind.h"
#include "lind_rt.h"

enum { DIR_FD = 3, O_RDWR_CREAT = 0102, ROUNDS = 3000 };

static int calls;
static uint64_t state = 1;

static uint64_t next_random(void)
{
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void must_fail(int result, const char *what)
{
    calls++;
    if (result < 0)
        return;
    lind_complain("lind-hostile: this succeeded: ", what, "\n", NULL);
    lind_exit(1);
}

// A part of what was asked for may be done, but no more than there is.
static void must_be_short(int result, const char *what)
{
    calls++;
    if (result < 0 || (uint64_t)result <= (uint64_t)__builtin_wasm_memory_size(0) << 16)
        return;
    lind_complain("lind-hostile: this did more than there is: ", what, "\n", NULL);
    lind_exit(1);
}

// The addresses that nobody may follow.
static lind_arg_t bad_pointer(int which)
{
    uint64_t base = lind_memory_base(), end = base + ((uint64_t)__builtin_wasm_memory_size(0) << 16), id = lind_cage_id();
    switch (which) {
    case 0:
        return (lind_arg_t){0, id};
    case 1:
        return (lind_arg_t){1, id};
    case 2:
        return (lind_arg_t){base - 1, id};
    case 3:
        return (lind_arg_t){end - 1, id}; // one byte is there
    case 4:
        return (lind_arg_t){end, id};
    case 5:
        return (lind_arg_t){UINT64_MAX, id};
    case 6:
        return (lind_arg_t){UINT64_MAX - 4095, id};
    case 7:
        return (lind_arg_t){base + 65536, id + 1}; // another cage's, perhaps the grate's
    case 8:
        return (lind_arg_t){base + 65536, 1};
    case 9:
        return (lind_arg_t){base + 65536, UINT64_MAX};
    case 10:
        return (lind_arg_t){base + 65536, LIND_CAGE_RUNTIME}; // only the runtime may say so
    default:
        return (lind_arg_t){0x1000, LIND_CAGE_RUNTIME};
    }
}

enum { BAD_POINTERS = 12 };

static void bad_pointers(int file)
{
    static const char none[1];
    for (int i = 0; i < BAD_POINTERS; i++) {
        lind_arg_t bad = bad_pointer(i);
        must_fail(lind_syscall4(LIND_SYS_OPENAT, lind_num(DIR_FD), bad, LIND_NONE, LIND_NONE), "openat");
        must_fail(lind_syscall3(LIND_SYS_MKDIRAT, lind_num(DIR_FD), bad, LIND_NONE), "mkdirat");
        must_fail(lind_syscall4(LIND_SYS_NEWFSTATAT, lind_num(DIR_FD), lind_ptr("."), bad, LIND_NONE), "newfstatat");
        must_fail(lind_syscall2(LIND_SYS_FSTAT, lind_num(file), bad), "fstat");
        must_fail(lind_syscall3(LIND_SYS_WRITE, lind_num(file), bad, lind_num(100)), "write");
        must_fail(lind_syscall3(LIND_SYS_WRITEV, lind_num(file), bad, lind_num(2)), "writev");
        must_fail(lind_syscall4(LIND_SYS_RENAMEAT, lind_num(DIR_FD), bad, lind_num(DIR_FD), bad), "renameat");
        must_fail(lind_syscall2(LIND_SYS_CLOCK_GETTIME, lind_num(0), bad), "clock_gettime");
        lind_iovec_t vector = {bad.value, 100};
        if (bad.cage == lind_cage_id())
            must_fail(lind_syscall3(LIND_SYS_WRITEV, lind_num(file), lind_ptr(&vector), lind_num(1)), "writev of it");
        must_fail(lind_copy_data(bad.value, bad.cage, lind_address(none), lind_cage_id(), 100, LIND_COPY_MEMORY),
                  "copy_data");
    }
}

static void bad_lengths(int file)
{
    static char text[4200]; // no NUL within a path's length
    memset(text, 'a', sizeof text - 1);
    must_fail(lind_openat(DIR_FD, text, O_RDWR_CREAT, 0600), "openat of a path that is too long");
    uint64_t end = lind_memory_base() + ((uint64_t)__builtin_wasm_memory_size(0) << 16);
    *(volatile char *)(uintptr_t)((__builtin_wasm_memory_size(0) << 16) - 1) = 'a';
    must_fail(lind_syscall4(LIND_SYS_OPENAT, lind_num(DIR_FD), (lind_arg_t){end - 1, lind_cage_id()}, LIND_NONE, LIND_NONE),
              "openat of a path without an end");
    static const uint64_t lengths[] = {UINT64_C(1) << 32, UINT64_MAX, (UINT64_C(1) << 32) - 1, INT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        must_be_short(lind_syscall3(LIND_SYS_WRITE, lind_num(file), lind_ptr(text), (lind_arg_t){lengths[i], 0}), "write");
        lind_iovec_t vector = {lind_address(text), lengths[i]};
        must_be_short(lind_syscall3(LIND_SYS_WRITEV, lind_num(file), lind_ptr(&vector), lind_num(1)), "writev");
        must_fail(lind_syscall3(LIND_SYS_WRITEV, lind_num(file), lind_ptr(&vector), (lind_arg_t){lengths[i], 0}),
                  "writev of many");
    }
}

static void bad_names(void)
{
    uint64_t self = lind_cage_id();
    static const uint64_t strangers[] = {0, 1, 500, 501, 4096, 777777, 888888, 999999, UINT64_MAX};
    must_fail(lind_make_syscall(LIND_SYS_GETPID, 0, self + 1, self, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
              "a call in another's name");
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
        must_fail(lind_register_handler(strangers[i], LIND_SYS_GETPID, (lind_handler_t)(uintptr_t)1), "register_handler");
        must_fail(lind_copy_handler_table(strangers[i], self), "copy_handler_table_to_cage");
    }
    must_fail(lind_register_handler(self, LIND_CALL_MAX, (lind_handler_t)(uintptr_t)1), "register_handler of no call");
    must_fail(lind_syscall0(1000), "a call that there is not");
    must_fail(lind_syscall0(UINT32_MAX), "a call that there is not");
}

// Calls that may succeed or not, with arguments of any kind: only that there is an answer counts. Neither those that end this
// program or wait, nor those on descriptors 0 to 2.
static void anything(int file)
{
    static const uint16_t numbers[] = {LIND_SYS_READ,      LIND_SYS_PREAD64,   LIND_SYS_LSEEK,     LIND_SYS_FCNTL,
                                       LIND_SYS_FSTAT,     LIND_SYS_OPENAT,    LIND_SYS_MKDIRAT,   LIND_SYS_NEWFSTATAT,
                                       LIND_SYS_GETDENTS64, LIND_SYS_READV,    LIND_SYS_UTIMENSAT, LIND_SYS_LINKAT,
                                       LIND_SYS_FALLOCATE, LIND_SYS_PWRITEV,   LIND_SYS_UNLINKAT,  LIND_SYS_RENAMEAT2};
    for (int i = 0; i < ROUNDS; i++) {
        static char room[4096]; // a path that leads out, and where a call may write
        memcpy(room, "..//x/../y", sizeof "..//x/../y");
        lind_arg_t a[5];
        for (int j = 0; j < 5; j++) {
            uint64_t kind = next_random() % 6;
            a[j] = kind == 0   ? bad_pointer((int)(next_random() % BAD_POINTERS))
                   : kind == 1 ? lind_ptr(room)
                   : kind == 2 ? lind_num((int64_t)next_random())
                               : lind_num((int64_t)(next_random() % 64));
        }
        a[0] = next_random() % 2 ? lind_num(file) : lind_num(DIR_FD);
        uint16_t number = numbers[next_random() % (sizeof numbers / sizeof *numbers)];
        if (number == LIND_SYS_FCNTL) // copies of descriptors would use up all numbers
            a[1] = lind_num((int64_t)(next_random() % 4) + 1);
        if (number == LIND_SYS_READ || number == LIND_SYS_PREAD64 || number == LIND_SYS_GETDENTS64)
            a[1] = bad_pointer((int)(next_random() % BAD_POINTERS)); // or it would write to this program's memory
        if (number == LIND_SYS_FALLOCATE)
            a[3] = lind_num(10);
        int result = lind_syscall6(number, lind_cage_id(), a[0], a[1], a[2], a[3], a[4], LIND_NONE);
        calls++;
        if (number == LIND_SYS_OPENAT && result > DIR_FD)
            lind_close(result);
    }
}

int main(int argc, char **argv)
{
    char path[LIND_PATH_MAX];
    lind_text_t text = LIND_TEXT(path);
    lind_put(&text, argc > 1 ? argv[1] : ".");
    lind_put(&text, "/hostile.tmp");
    text.length -= text.cut;
    path[text.length] = 0;
    int file = lind_openat(DIR_FD, path, O_RDWR_CREAT, 0600);
    if (file < 0) {
        lind_complain("lind-hostile: cannot open a file to work with\n", NULL);
        return 1;
    }
    bad_pointers(file);
    bad_lengths(file);
    bad_names();
    anything(file);
    lind_close(file);
    lind_syscall3(LIND_SYS_UNLINKAT, lind_num(DIR_FD), lind_ptr(path), LIND_NONE);
    char buffer[64];
    lind_text_t line = LIND_TEXT(buffer);
    lind_put(&line, "lind-hostile: ");
    lind_put_i64(&line, calls);
    lind_put(&line, " calls answered\n");
    return lind_flush(&line, 1) ? 0 : 1;
}
