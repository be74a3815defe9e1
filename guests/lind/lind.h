// lind.h: the Lind ABI for C programs and grates: the imports of module "lind", and what is built on them.
//
// It is C11 and needs no library: include it in a program that is built with wasi-libc, or in a freestanding one that is
// linked with lind_start.c (lind_rt.h has what that offers). build.sh builds both kinds.
//
// Words. A cage is a program with its own memory. A grate is a cage that serves system calls of another. A call has a
// number (Linux x86-64's, or 3i's own from 1001 on), six argument words, and for each word the cage whose memory it points
// into if it is a pointer (its "argcage"; 0 for a number). A pointer argument is an address of the host, which is the base of
// the cage's linear memory plus the 32-bit pointer: lind_ptr makes one. The host checks every one against its argcage.
//
// Results are 32-bit. A negative one is an error: the negative of a Linux error number, or LIND_ELINDAPIABORTED,
// LIND_ELINDESRCH or LIND_GRATE_ERR, which are negative as they are. An lseek beyond 2 GiB has no room in it.
//
// Concurrency: everything here may be called by several threads and workers at once. Blocking: a function blocks only if it
// says so. Ownership: nothing here keeps a pointer that it was given.
#ifndef LIND_H
#define LIND_H

#include <stddef.h>
#include <stdint.h>

#include "lind_abi.h"

#if defined(__wasi__)
#include <stdlib.h>
#else
const char *lind_getenv(const char *name); // lind_start.c has it
#endif

// --- Imports ------------------------------------------------------------------------------------------------------------

#define LIND_IMPORT(name) __attribute__((import_module("lind"), import_name(name)))

// The one entry for every call. name is not used: pass 0. self must be the caller's own cage, else -LIND_EPERM. target is
// the cage that the call acts on. Blocks for as long as the call does.
LIND_IMPORT("make-syscall")
int lind_make_syscall(uint32_t call, uint64_t name, uint64_t self, uint64_t target, uint64_t arg1, uint64_t arg1cage,
                      uint64_t arg2, uint64_t arg2cage, uint64_t arg3, uint64_t arg3cage, uint64_t arg4,
                      uint64_t arg4cage, uint64_t arg5, uint64_t arg5cage, uint64_t arg6, uint64_t arg6cage);

LIND_IMPORT("lind-get-memory-base") uint64_t lind_import_memory_base(void);
LIND_IMPORT("lind-get-cage-id") uint64_t lind_import_cage_id(void);

// The host address of the caller's linear memory. It never changes, so it is asked for once.
static inline uint64_t lind_memory_base(void)
{
    static _Atomic uint64_t base;
    uint64_t known = __c11_atomic_load(&base, __ATOMIC_RELAXED);
    if (known == 0) {
        known = lind_import_memory_base();
        __c11_atomic_store(&base, known, __ATOMIC_RELAXED);
    }
    return known;
}

// The caller's own cage. It never changes, so it is asked for once.
static inline uint64_t lind_cage_id(void)
{
    static _Atomic uint64_t id;
    uint64_t known = __c11_atomic_load(&id, __ATOMIC_RELAXED);
    if (known == 0) {
        known = lind_import_cage_id();
        __c11_atomic_store(&id, known, __ATOMIC_RELAXED);
    }
    return known;
}

// --- Arguments ----------------------------------------------------------------------------------------------------------

// A number. Signed ones are sign-extended, as system calls take them.
static inline lind_arg_t lind_num(int64_t value)
{
    return (lind_arg_t){(uint64_t)value, 0};
}

// The host address of a pointer of the caller's own. NULL stays 0, which is no address of any cage.
static inline uint64_t lind_address(const volatile void *p)
{
    return p ? lind_memory_base() + (uint64_t)(uintptr_t)p : 0;
}

// A pointer into the caller's own memory.
static inline lind_arg_t lind_ptr(const volatile void *p)
{
    return (lind_arg_t){lind_address(p), lind_cage_id()};
}

// --- Calls --------------------------------------------------------------------------------------------------------------

// Makes a call with six arguments that acts on the cage target. Blocks for as long as the call does.
static inline int lind_syscall6(uint32_t call, uint64_t target, lind_arg_t a1, lind_arg_t a2, lind_arg_t a3,
                                lind_arg_t a4, lind_arg_t a5, lind_arg_t a6)
{
    return lind_make_syscall(call, 0, lind_cage_id(), target, a1.value, a1.cage, a2.value, a2.cage, a3.value, a3.cage,
                             a4.value, a4.cage, a5.value, a5.cage, a6.value, a6.cage);
}

#define LIND_NONE ((lind_arg_t){0, 0})

// Calls on the caller's own cage, by how many arguments they have. They block for as long as the call does.
static inline int lind_syscall0(uint32_t call)
{
    return lind_syscall6(call, lind_cage_id(), LIND_NONE, LIND_NONE, LIND_NONE, LIND_NONE, LIND_NONE, LIND_NONE);
}

static inline int lind_syscall1(uint32_t call, lind_arg_t a1)
{
    return lind_syscall6(call, lind_cage_id(), a1, LIND_NONE, LIND_NONE, LIND_NONE, LIND_NONE, LIND_NONE);
}

static inline int lind_syscall2(uint32_t call, lind_arg_t a1, lind_arg_t a2)
{
    return lind_syscall6(call, lind_cage_id(), a1, a2, LIND_NONE, LIND_NONE, LIND_NONE, LIND_NONE);
}

static inline int lind_syscall3(uint32_t call, lind_arg_t a1, lind_arg_t a2, lind_arg_t a3)
{
    return lind_syscall6(call, lind_cage_id(), a1, a2, a3, LIND_NONE, LIND_NONE, LIND_NONE);
}

static inline int lind_syscall4(uint32_t call, lind_arg_t a1, lind_arg_t a2, lind_arg_t a3, lind_arg_t a4)
{
    return lind_syscall6(call, lind_cage_id(), a1, a2, a3, a4, LIND_NONE, LIND_NONE);
}

// read(2), write(2), openat(2), close(2) of the caller's own descriptors. read and write may move less than was asked for.
static inline int lind_read(int fd, void *to, size_t bytes)
{
    return lind_syscall3(LIND_SYS_READ, lind_num(fd), lind_ptr(to), lind_num((int64_t)bytes));
}

static inline int lind_write(int fd, const void *from, size_t bytes)
{
    return lind_syscall3(LIND_SYS_WRITE, lind_num(fd), lind_ptr(from), lind_num((int64_t)bytes));
}

static inline int lind_openat(int dirfd, const char *path, int flags, int mode)
{
    return lind_syscall4(LIND_SYS_OPENAT, lind_num(dirfd), lind_ptr(path), lind_num(flags), lind_num(mode));
}

static inline int lind_close(int fd)
{
    return lind_syscall1(LIND_SYS_CLOSE, lind_num(fd));
}

// Nanoseconds of a LIND_CLOCK_, or 0 if the clock cannot be read.
static inline uint64_t lind_clock_ns(int clock)
{
    lind_timespec_t now = {0, 0};
    if (lind_syscall2(LIND_SYS_CLOCK_GETTIME, lind_num(clock), lind_ptr(&now)) < 0 || now.seconds < 0)
        return 0;
    return (uint64_t)now.seconds * UINT64_C(1000000000) + (uint64_t)now.nanoseconds;
}

// Blocks for ns nanoseconds: 0, or -LIND_EINTR when it was woken early because whoever waits for it is being stopped.
static inline int lind_sleep_ns(uint64_t ns)
{
    lind_timespec_t time = {(int64_t)(ns / UINT64_C(1000000000)), (int64_t)(ns % UINT64_C(1000000000))};
    return lind_syscall2(LIND_SYS_NANOSLEEP, lind_ptr(&time), LIND_NONE);
}

// Ends the caller's cage with a status of 0 to 255.
static inline _Noreturn void lind_exit(int status)
{
    lind_syscall1(LIND_SYS_EXIT_GROUP, lind_num(status));
    __builtin_trap(); // no call goes on after it; should one do so, this cage ends all the same
}

// --- Serving calls ------------------------------------------------------------------------------------------------------

// A handler, as Lind's grates have it. cage is the cage that the call acts on, which is the caller unless a grate passes
// on a caller's call; arguments are as described above. The answer is the caller's result.
typedef int (*lind_handler_t)(uint64_t cage, uint64_t arg1, uint64_t arg1cage, uint64_t arg2, uint64_t arg2cage,
                              uint64_t arg3, uint64_t arg3cage, uint64_t arg4, uint64_t arg4cage, uint64_t arg5,
                              uint64_t arg5cage, uint64_t arg6, uint64_t arg6cage);

// A call as handlers here take it. cage and the arguments come from the caller, who may be hostile: any value is possible.
typedef struct {
    uint64_t cage;
    lind_arg_t arg[6];
} lind_call_t;

// LIND_HANDLER(name) { ... } defines the handler `name`, whose body has the call as `const lind_call_t *call`.
#define LIND_HANDLER(name)                                                                                             \
    static int name##_serve(const lind_call_t *call);                                                                  \
    static int name(uint64_t cage, uint64_t arg1, uint64_t arg1cage, uint64_t arg2, uint64_t arg2cage, uint64_t arg3,  \
                    uint64_t arg3cage, uint64_t arg4, uint64_t arg4cage, uint64_t arg5, uint64_t arg5cage,             \
                    uint64_t arg6, uint64_t arg6cage)                                                                  \
    {                                                                                                                  \
        const lind_call_t call = {cage,                                                                                \
                                  {{arg1, arg1cage},                                                                   \
                                   {arg2, arg2cage},                                                                   \
                                   {arg3, arg3cage},                                                                   \
                                   {arg4, arg4cage},                                                                   \
                                   {arg5, arg5cage},                                                                   \
                                   {arg6, arg6cage}}};                                                                 \
        return name##_serve(&call);                                                                                    \
    }                                                                                                                  \
    static int name##_serve(const lind_call_t *call)

// A handler is not told the call's number. A grate that serves many calls alike needs one handler for each:
// LIND_NUMBERED_HANDLERS(serve); at file scope defines lind_numbered_handlers, the handlers of all numbers that Linux uses,
// each of which calls
//     int serve(uint32_t number, const lind_call_t *call);
// LIND_EACH_CALL(M) expands M(0x000) M(0x001) ... M(0x1ff).
#define LIND_EACH_16(M, p)                                                                                             \
    M(p##0) M(p##1) M(p##2) M(p##3) M(p##4) M(p##5) M(p##6) M(p##7) M(p##8) M(p##9) M(p##a) M(p##b) M(p##c) M(p##d)    \
        M(p##e) M(p##f)
#define LIND_EACH_256(M, p)                                                                                            \
    LIND_EACH_16(M, p##0) LIND_EACH_16(M, p##1) LIND_EACH_16(M, p##2) LIND_EACH_16(M, p##3) LIND_EACH_16(M, p##4)      \
    LIND_EACH_16(M, p##5) LIND_EACH_16(M, p##6) LIND_EACH_16(M, p##7) LIND_EACH_16(M, p##8) LIND_EACH_16(M, p##9)      \
    LIND_EACH_16(M, p##a) LIND_EACH_16(M, p##b) LIND_EACH_16(M, p##c) LIND_EACH_16(M, p##d) LIND_EACH_16(M, p##e)      \
    LIND_EACH_16(M, p##f)
#define LIND_EACH_CALL(M) LIND_EACH_256(M, 0x0) LIND_EACH_256(M, 0x1)
enum { LIND_EACH_CALL_COUNT = 512 };

#define LIND_NUMBERED_HANDLER(n)                                                                                       \
    static int lind_serve_##n(uint64_t cage, uint64_t arg1, uint64_t arg1cage, uint64_t arg2, uint64_t arg2cage,       \
                              uint64_t arg3, uint64_t arg3cage, uint64_t arg4, uint64_t arg4cage, uint64_t arg5,       \
                              uint64_t arg5cage, uint64_t arg6, uint64_t arg6cage)                                     \
    {                                                                                                                  \
        return lind_serve_numbered(n, cage, arg1, arg1cage, arg2, arg2cage, arg3, arg3cage, arg4, arg4cage, arg5,      \
                                   arg5cage, arg6, arg6cage);                                                          \
    }
#define LIND_NUMBERED_ENTRY(n) lind_serve_##n,

#define LIND_NUMBERED_HANDLERS(serve)                                                                                  \
    __attribute__((noinline)) static int lind_serve_numbered(                                                          \
        uint32_t number, uint64_t cage, uint64_t arg1, uint64_t arg1cage, uint64_t arg2, uint64_t arg2cage,            \
        uint64_t arg3, uint64_t arg3cage, uint64_t arg4, uint64_t arg4cage, uint64_t arg5, uint64_t arg5cage,          \
        uint64_t arg6, uint64_t arg6cage)                                                                              \
    {                                                                                                                  \
        const lind_call_t call = {cage,                                                                                \
                                  {{arg1, arg1cage},                                                                   \
                                   {arg2, arg2cage},                                                                   \
                                   {arg3, arg3cage},                                                                   \
                                   {arg4, arg4cage},                                                                   \
                                   {arg5, arg5cage},                                                                   \
                                   {arg6, arg6cage}}};                                                                 \
        return serve(number, &call);                                                                                   \
    }                                                                                                                  \
    LIND_EACH_CALL(LIND_NUMBERED_HANDLER)                                                                              \
    static const lind_handler_t lind_numbered_handlers[] = {LIND_EACH_CALL(LIND_NUMBERED_ENTRY)};                      \
    _Static_assert(sizeof lind_numbered_handlers / sizeof *lind_numbered_handlers == LIND_EACH_CALL_COUNT,             \
                   "a handler for each number")

// What the runtime calls in a grate: the function at index fn of the table, which register_handler was given. One file of
// a grate defines it by LIND_GRATE, at file scope. An index that is no function of this type traps, which ends the grate.
#define LIND_GRATE                                                                                                     \
    __attribute__((export_name("pass_fptr_to_wt"))) int pass_fptr_to_wt(                                               \
        uint64_t fn, uint64_t cage, uint64_t arg1, uint64_t arg1cage, uint64_t arg2, uint64_t arg2cage, uint64_t arg3, \
        uint64_t arg3cage, uint64_t arg4, uint64_t arg4cage, uint64_t arg5, uint64_t arg5cage, uint64_t arg6,          \
        uint64_t arg6cage);                                                                                            \
    int pass_fptr_to_wt(uint64_t fn, uint64_t cage, uint64_t arg1, uint64_t arg1cage, uint64_t arg2,                   \
                        uint64_t arg2cage, uint64_t arg3, uint64_t arg3cage, uint64_t arg4, uint64_t arg4cage,         \
                        uint64_t arg5, uint64_t arg5cage, uint64_t arg6, uint64_t arg6cage)                            \
    {                                                                                                                  \
        if (fn > UINT32_MAX)                                                                                           \
            __builtin_trap();                                                                                          \
        return ((lind_handler_t)(uintptr_t)fn)(cage, arg1, arg1cage, arg2, arg2cage, arg3, arg3cage, arg4, arg4cage,   \
                                               arg5, arg5cage, arg6, arg6cage);                                        \
    }                                                                                                                  \
    _Static_assert(sizeof(void *) == 4, "a grate is built for wasm32")

// Makes the caller serve call of the cage target by fn. The last one to register wins; the same again is no change.
//
// Errors: LIND_ELINDESRCH (target or the caller is unknown or stopping), LIND_ELINDAPIABORTED (call is LIND_CALL_MAX or
// more), -LIND_EPERM (the caller may not interpose on target).
static inline int lind_register_handler(uint64_t target, uint32_t call, lind_handler_t fn)
{
    return lind_syscall6(LIND_CALL_REGISTER_HANDLER, lind_cage_id(), (lind_arg_t){target, call},
                         (lind_arg_t){1, lind_cage_id()}, lind_num((int64_t)(uintptr_t)fn), LIND_NONE, LIND_NONE,
                         LIND_NONE);
}

// Makes call of the cage target native again, whoever served it. Errors as lind_register_handler.
static inline int lind_deregister_handler(uint64_t target, uint32_t call)
{
    return lind_syscall6(LIND_CALL_REGISTER_HANDLER, lind_cage_id(), (lind_arg_t){target, call},
                         (lind_arg_t){1, LIND_CAGE_DEREGISTER}, LIND_NONE, LIND_NONE, LIND_NONE, LIND_NONE);
}

// Makes the caller serve every call of the cage target by fn, which is not told which call it is. Errors as
// lind_register_handler.
static inline int lind_match_all(uint64_t target, lind_handler_t fn)
{
    return lind_syscall6(LIND_CALL_REGISTER_HANDLER, lind_cage_id(), (lind_arg_t){target, 0},
                         (lind_arg_t){1, LIND_CAGE_MATCHALL}, lind_num((int64_t)(uintptr_t)fn), LIND_NONE, LIND_NONE,
                         LIND_NONE);
}

// Makes all handlers of the cage target those of source, in one step for any observer.
//
// Errors: LIND_ELINDAPIABORTED (source has none), LIND_ELINDESRCH (either is unknown or stopping), -LIND_EPERM.
static inline int lind_copy_handler_table(uint64_t source, uint64_t target)
{
    return lind_syscall6(LIND_CALL_COPY_HANDLER_TABLE, lind_cage_id(), (lind_arg_t){source, target}, LIND_NONE,
                         LIND_NONE, LIND_NONE, LIND_NONE, LIND_NONE);
}

// Passes a call on as it came: to the next grate below, or to the native function. The call acts on the cage that it was
// made for. What a pointer points to may change before it is looked at again: a grate that decides by it passes on a copy
// of its own (lind_ptr). Blocks for as long as the call does.
static inline int lind_forward(uint32_t number, const lind_call_t *call)
{
    return lind_syscall6(number, call->cage, call->arg[0], call->arg[1], call->arg[2], call->arg[3], call->arg[4],
                         call->arg[5]);
}

// The cage that is stacked on this grate and waits for its handlers: LIND_CHILD_CAGE of the environment. 0 if there is
// none, which is to say that the program was not started as a grate.
static inline uint64_t lind_child_cage(void)
{
#if defined(__wasi__)
    const char *text = getenv("LIND_CHILD_CAGE");
#else
    const char *text = lind_getenv("LIND_CHILD_CAGE");
#endif
    uint64_t id = 0;
    if (!text || !*text)
        return 0;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || id > (UINT64_MAX - 9) / 10)
            return 0;
        id = id * 10 + (uint64_t)(*text - '0');
    }
    return id;
}

// Says that the handlers are registered, and blocks until the cage that is stacked on this grate has ended. Answers its
// wait status (exit code << 8, or the number of the signal that ended it), or a negative error. Call it once, from main;
// handlers run meanwhile, and may run already before.
static inline int lind_grate_serve(void)
{
    return lind_syscall0(LIND_CALL_GRATE_SERVE);
}

// --- Open files of a grate ------------------------------------------------------------------------------------------------

// A grate may open files that it serves itself in the descriptor tables of the cages below it. They are duplicated, closed,
// inherited and waited for as all others are, by poll(2), select(2) and epoll(7) together with these: the grate does not
// serve those calls. It serves what is done with the file, such as read(2), and says what it is ready for. It knows each by a
// number of its own, of 64 bits, which no other of its open files has.

// Opens a file in cage, with the lowest free descriptor from least on, ready for the LIND_POLL events. flags is
// LIND_O_CLOEXEC or 0. Answers the descriptor.
//
// Errors: -LIND_EEXIST (an open file has the number), -LIND_EMFILE, -23 (ENFILE), -LIND_EINVAL (flags, or a least that is
// beyond the cage's limit), -LIND_EIO (the grate is ending), -LIND_EPERM (the caller is no grate, or not one of cage's).
static inline int lind_fd_open(uint64_t cage, uint64_t number, int least, int events, int flags)
{
    return lind_syscall6(LIND_CALL_GRATE_FD_OPEN, cage, lind_num((int64_t)number), lind_num(least), lind_num(events),
                         lind_num(flags), LIND_NONE, LIND_NONE);
}

// The number of the file that descriptor fd of cage stands for at the moment. 0, -LIND_EBADF (it is not open) or -LIND_ENOENT
// (it is none of the caller's files).
static inline int lind_fd_number(uint64_t cage, int fd, uint64_t *number)
{
    return lind_syscall6(LIND_CALL_GRATE_FD_NUMBER, cage, lind_num(fd), lind_ptr(number), LIND_NONE, LIND_NONE, LIND_NONE,
                         LIND_NONE);
}

// Says what the file is ready for from now on, and wakes who waits for that. To say it once more is news to who waits for
// edges (EPOLLET). 0, or -LIND_ENOENT if no open file of the caller's has the number. It does not block.
static inline int lind_fd_ready(uint64_t number, int events)
{
    return lind_syscall2(LIND_CALL_GRATE_FD_READY, lind_num((int64_t)number), lind_num(events));
}

// Makes fn what is called when a file is closed for good: its first argument is the number, and what it answers means
// nothing. It is called once for each, one at a time and in order, and nobody waits for it. The number may be used again from
// then on.
static inline int lind_fd_on_close(lind_handler_t fn)
{
    return lind_syscall1(LIND_CALL_GRATE_FD_ON_CLOSE, lind_num((int64_t)(uintptr_t)fn));
}

// --- Memory of other cages ----------------------------------------------------------------------------------------------

enum { LIND_COPY_MEMORY = 0, LIND_COPY_STRING = 1 };

// Copies bytes from one cage to another by addresses of the host. LIND_COPY_STRING copies up to and with the first NUL,
// which must be within the bytes. Both ranges are checked, and nothing outside them is touched; if another thread changes
// the source meanwhile, the copy may be of any mixture.
//
// Answers the lower 32 bits of to, or LIND_ELINDAPIABORTED (a range is not memory of its cage; no NUL; one and the same
// cage; more than 4 GiB) or another negative error. An address may look like an error: lind_copy_in and lind_copy_out
// tell them apart.
static inline int lind_copy_data(uint64_t from, uint64_t fromcage, uint64_t to, uint64_t tocage, uint64_t bytes, int type)
{
    return lind_syscall6(LIND_CALL_COPY_DATA, lind_cage_id(), (lind_arg_t){from, fromcage}, (lind_arg_t){to, tocage},
                         lind_num((int64_t)bytes), lind_num(type), LIND_NONE, LIND_NONE);
}

// Whether the answer of a copy that is no failure could be taken for one, since the address it answers looks like it.
static inline int lind_looks_like_error(uint64_t address)
{
    uint32_t low = (uint32_t)address;
    return low >= 0xfffff000u || low == (uint32_t)LIND_ELINDAPIABORTED || low == (uint32_t)LIND_ELINDESRCH ||
           low == (uint32_t)LIND_GRATE_ERR;
}

// Copies bytes at a caller's pointer argument to `to`. A pointer to the grate's own memory, which another grate that passes
// on a call of its own may make, works too. 0, or -LIND_EFAULT and `to` may have anything.
static inline int lind_copy_in(void *to, lind_arg_t from, uint64_t bytes)
{
    uint64_t base = lind_memory_base(), address = lind_address(to);
    if (bytes == 0)
        return 0;
    if (from.value == 0 || bytes > UINT32_MAX)
        return -LIND_EFAULT;
    if (from.cage == lind_cage_id()) {
        uint64_t size = (uint64_t)__builtin_wasm_memory_size(0) << 16;
        if (from.value < base || from.value - base > size || bytes > size - (from.value - base))
            return -LIND_EFAULT;
        __builtin_memmove(to, (const void *)(uintptr_t)(from.value - base), (size_t)bytes);
        return 0;
    }
    if (lind_looks_like_error(address)) {
        // One byte at a place that cannot be mistaken, and the rest from the next address, which cannot be either.
        _Alignas(8) char first;
        char *place = &first;
        if (lind_looks_like_error(lind_address(place)) ||
            lind_copy_data(from.value, from.cage, lind_address(place), lind_cage_id(), 1, LIND_COPY_MEMORY) !=
                (int)(uint32_t)lind_address(place))
            return -LIND_EFAULT;
        *(char *)to = first;
        return lind_copy_in((char *)to + 1, (lind_arg_t){from.value + 1, from.cage}, bytes - 1);
    }
    int answer = lind_copy_data(from.value, from.cage, address, lind_cage_id(), bytes, LIND_COPY_MEMORY);
    return answer == (int)(uint32_t)address ? 0 : -LIND_EFAULT;
}

// Copies bytes at `from` to a caller's pointer argument: the other direction of lind_copy_in. 0, or -LIND_EFAULT and the
// caller's memory may have any part of it.
static inline int lind_copy_out(lind_arg_t to, const void *from, uint64_t bytes)
{
    uint64_t base = lind_memory_base();
    if (bytes == 0)
        return 0;
    if (to.value == 0 || bytes > UINT32_MAX)
        return -LIND_EFAULT;
    if (to.cage == lind_cage_id()) {
        uint64_t size = (uint64_t)__builtin_wasm_memory_size(0) << 16;
        if (to.value < base || to.value - base > size || bytes > size - (to.value - base))
            return -LIND_EFAULT;
        __builtin_memmove((void *)(uintptr_t)(to.value - base), from, (size_t)bytes);
        return 0;
    }
    if (lind_looks_like_error(to.value)) {
        // The answer says nothing about this address. What can be read can be written: memory of a cage is both.
        char probe[64];
        for (uint64_t done = 0; done < bytes; done += sizeof probe) {
            uint64_t n = bytes - done < sizeof probe ? bytes - done : sizeof probe;
            if (lind_copy_in(probe, (lind_arg_t){to.value + done, to.cage}, n) != 0)
                return -LIND_EFAULT;
        }
    }
    int answer = lind_copy_data(lind_address(from), lind_cage_id(), to.value, to.cage, bytes, LIND_COPY_MEMORY);
    return answer == (int)(uint32_t)to.value ? 0 : -LIND_EFAULT;
}

// Copies the string at a caller's pointer argument to `to`, which has room for size bytes, the NUL with it. Answers its
// length without the NUL; -LIND_EFAULT if it lies outside the caller's memory, -LIND_ENAMETOOLONG if it has size bytes or
// more. `to` ends in a NUL in any case.
static inline int lind_copy_in_string(char *to, size_t size, lind_arg_t from)
{
    if (size == 0 || size > INT32_MAX)
        return -LIND_EINVAL;
    uint64_t address = lind_address(to);
    // At once, where the answer can be told from an error. What it copied says where the string ends, since the caller may
    // have changed it meanwhile.
    if (from.value != 0 && from.cage != lind_cage_id() && !lind_looks_like_error(address) &&
        lind_copy_data(from.value, from.cage, address, lind_cage_id(), size, LIND_COPY_STRING) ==
            (int)(uint32_t)address)
        for (size_t n = 0; n < size; n++)
            if (to[n] == 0)
                return (int)n;
    // Else in pieces that cross no multiple of 16, as the ends of memories do not, until there is a NUL: a string is good
    // also if its memory ends right behind it.
    for (size_t done = 0; done < size;) {
        size_t n = 16 - (size_t)((from.value + done) & 15);
        if (n > size - done)
            n = size - done;
        if (lind_copy_in(to + done, (lind_arg_t){from.value + done, from.cage}, n) != 0) {
            to[0] = 0;
            return -LIND_EFAULT;
        }
        for (size_t end = done + n; done < end; done++)
            if (to[done] == 0)
                return (int)done;
    }
    to[0] = 0;
    return -LIND_ENAMETOOLONG;
}

// The cage in whose memory the buffers lie that an iovec array names, which is argument i of call: an array of the
// runtime's own, as a WASI program's calls have, names the memory of the cage that the call acts on.
static inline uint64_t lind_iovec_cage(const lind_call_t *call, int i)
{
    return call->arg[i].cage == LIND_CAGE_RUNTIME ? call->cage : call->arg[i].cage;
}

#endif
