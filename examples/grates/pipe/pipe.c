// pipe [-s BYTES]: a grate that serves pipes. Their data is in its memory, and the host's kernel knows nothing of them; all the
// same the program above it may duplicate, close, inherit and poll their ends as any descriptor, beside those of the kernel.
// README.md has the manual.
//
// One lock guards everything. It is held while data is copied, and never while a call waits: a read of an empty pipe waits for
// its own descriptor, by poll(2), as the program could itself.
#include "lind.h"
#include "lind_rt.h"

LIND_GRATE;

enum {
    PIPES = 256,
    PIPE_BUF = 4096, // a write of no more bytes is all or nothing
    READ_END = 0,
    WRITE_END = 1,
    O_DIRECT_ = 040000,
};

// A pipe. Its ends have the numbers 2 * index and 2 * index + 1.
typedef struct {
    char *data; // NULL if the pipe is free
    size_t start, count;
    bool closed[2];
    bool nonblock[2];
} pipe_t;

static lind_mutex_t mu;
static pipe_t pipes[PIPES];      // guarded by mu
static uint64_t capacity = 1 << 16; // immutable once it serves
static uint64_t moved, opened;   // guarded by mu

static void say_ready_locked(size_t index)
{
    pipe_t *p = &pipes[index];
    int reads = (p->count > 0 ? LIND_POLLIN : 0) | (p->closed[WRITE_END] ? LIND_POLLHUP : 0);
    // As in Linux a pipe can be written to when it has room for a write that is all or nothing.
    int writes = (capacity - p->count >= PIPE_BUF ? LIND_POLLOUT : 0) | (p->closed[READ_END] ? LIND_POLLERR : 0);
    if (!p->closed[READ_END])
        lind_fd_ready(2 * index + READ_END, reads);
    if (!p->closed[WRITE_END])
        lind_fd_ready(2 * index + WRITE_END, writes);
}

static void free_locked(pipe_t *p)
{
    lind_free(p->data, capacity);
    *p = (pipe_t){0};
}

// Which end of which pipe a descriptor is: its number, or -1.
static int64_t end_of(uint64_t cage, lind_arg_t fd)
{
    uint64_t number;
    if (lind_fd_number(cage, (int)fd.value, &number) != 0 || number >= 2 * PIPES)
        return -1;
    return (int64_t)number;
}

// --- pipe, pipe2 ------------------------------------------------------------------------------------------------------------

static int open_pipe(const lind_call_t *call, uint32_t number, int flags)
{
    if (flags & ~(LIND_O_CLOEXEC | LIND_O_NONBLOCK))
        return flags & O_DIRECT_ ? -LIND_EOPNOTSUPP : -LIND_EINVAL;
    lind_lock(&mu);
    size_t index = 0;
    while (index < PIPES && pipes[index].data)
        index++;
    char *data = index < PIPES ? lind_alloc(capacity) : NULL;
    if (data) {
        bool nonblock = (flags & LIND_O_NONBLOCK) != 0;
        pipes[index] = (pipe_t){.data = data, .nonblock = {nonblock, nonblock}};
    }
    lind_unlock(&mu);
    if (!data)
        return lind_forward(number, call); // a pipe of the kernel's is as good
    int32_t fds[2];
    int cloexec = flags & LIND_O_CLOEXEC;
    fds[0] = lind_fd_open(call->cage, 2 * index + READ_END, 0, 0, cloexec);
    if (fds[0] < 0) {
        lind_lock(&mu);
        free_locked(&pipes[index]);
        lind_unlock(&mu);
        return fds[0];
    }
    fds[1] = lind_fd_open(call->cage, 2 * index + WRITE_END, 0, LIND_POLLOUT, cloexec);
    if (fds[1] < 0) {
        lind_lock(&mu);
        pipes[index].closed[WRITE_END] = true; // the other end is closed next
        lind_unlock(&mu);
    }
    int result = fds[1] < 0 ? fds[1] : lind_copy_out(call->arg[0], fds, sizeof fds);
    if (result < 0) {
        for (int i = 0; i < 2; i++)
            if (fds[i] >= 0)
                lind_syscall6(LIND_SYS_CLOSE, call->cage, lind_num(fds[i]), LIND_NONE, LIND_NONE, LIND_NONE, LIND_NONE,
                              LIND_NONE);
        return result;
    }
    lind_lock(&mu);
    opened++;
    lind_unlock(&mu);
    return 0;
}

LIND_HANDLER(pipe)
{
    return open_pipe(call, LIND_SYS_PIPE, 0);
}

LIND_HANDLER(pipe2)
{
    return open_pipe(call, LIND_SYS_PIPE2, (int)call->arg[1].value);
}

// An end is closed for good. The other one hears of that as readers and writers of pipes do.
LIND_HANDLER(closed)
{
    uint64_t number = call->arg[0].value;
    if (number >= 2 * PIPES)
        return 0;
    pipe_t *p = &pipes[number / 2];
    lind_lock(&mu);
    p->closed[number % 2] = true;
    if (p->closed[READ_END] && p->closed[WRITE_END])
        free_locked(p);
    else
        say_ready_locked(number / 2);
    lind_unlock(&mu);
    return 0;
}

// --- read, write --------------------------------------------------------------------------------------------------------------

// Waits until the end has an event, or an error: 0, or a negative error.
static int await(const lind_call_t *call, int events)
{
    lind_pollfd_t fd = {(int32_t)call->arg[0].value, (int16_t)events, 0};
    int n = lind_syscall6(LIND_SYS_POLL, call->cage, lind_ptr(&fd), lind_num(1), lind_num(-1), LIND_NONE, LIND_NONE,
                          LIND_NONE);
    return n < 0 ? n : 0;
}

// Moves up to bytes between the pipe and the caller's memory. Answers how many, or a negative error.
static int64_t copy_locked(pipe_t *p, lind_arg_t memory, uint64_t bytes, bool write)
{
    uint64_t done = 0;
    while (done < bytes) {
        size_t at = write ? (p->start + p->count) % capacity : p->start;
        size_t n = write ? capacity - p->count : p->count;
        if (n > capacity - at)
            n = capacity - at; // as far as it is in one piece
        if (n > bytes - done)
            n = bytes - done;
        if (n == 0)
            break;
        lind_arg_t part = {memory.value + done, memory.cage};
        int result = write ? lind_copy_in(p->data + at, part, n) : lind_copy_out(part, p->data + at, n);
        if (result < 0)
            return done > 0 ? (int64_t)done : result;
        if (!write)
            p->start = (p->start + n) % capacity;
        p->count = write ? p->count + n : p->count - n;
        done += n;
        moved += n;
    }
    return (int64_t)done;
}

static int read_pipe(const lind_call_t *call, size_t index, lind_arg_t to, uint64_t bytes)
{
    pipe_t *p = &pipes[index];
    for (;;) {
        lind_lock(&mu);
        int64_t n = 0;
        bool waits = bytes > 0 && p->count == 0 && !p->closed[WRITE_END];
        if (!waits && p->count > 0) {
            n = copy_locked(p, to, bytes, false);
            say_ready_locked(index);
        }
        if (waits && p->nonblock[READ_END])
            n = -LIND_EAGAIN;
        lind_unlock(&mu);
        if (!waits || n < 0)
            return (int)n;
        int result = await(call, LIND_POLLIN);
        if (result < 0)
            return result;
    }
}

static int write_pipe(const lind_call_t *call, size_t index, lind_arg_t from, uint64_t bytes)
{
    pipe_t *p = &pipes[index];
    uint64_t done = 0;
    for (;;) {
        lind_lock(&mu);
        int64_t n = 0;
        size_t room = capacity - p->count;
        bool nonblock = p->nonblock[WRITE_END], whole = bytes <= PIPE_BUF && room < bytes;
        if (p->closed[READ_END])
            n = -LIND_EPIPE;
        else if (room > 0 && !whole) {
            n = copy_locked(p, (lind_arg_t){from.value + done, from.cage}, bytes - done, true);
            say_ready_locked(index);
        }
        lind_unlock(&mu);
        if (n < 0)
            return done > 0 ? (int)done : (int)n;
        done += (uint64_t)n;
        if (done == bytes)
            return (int)done;
        if (nonblock)
            return done > 0 ? (int)done : -LIND_EAGAIN;
        int result = await(call, LIND_POLLOUT);
        if (result < 0)
            return done > 0 ? (int)done : result;
    }
}

static int move(const lind_call_t *call, uint32_t number, int end)
{
    int64_t which = end_of(call->cage, call->arg[0]);
    uint64_t bytes = call->arg[2].value;
    if (which < 0)
        return lind_forward(number, call);
    if (which % 2 != end)
        return -LIND_EBADF;
    if (bytes > LIND_RW_MAX)
        bytes = LIND_RW_MAX;
    size_t index = (size_t)which / 2;
    return end == READ_END ? read_pipe(call, index, call->arg[1], bytes) : write_pipe(call, index, call->arg[1], bytes);
}

LIND_HANDLER(read)
{
    return move(call, LIND_SYS_READ, READ_END);
}

LIND_HANDLER(write)
{
    return move(call, LIND_SYS_WRITE, WRITE_END);
}

// readv and writev move one buffer, the first that is not empty: less than all, as they may.
static int move_first(const lind_call_t *call, uint32_t number, int end)
{
    int64_t which = end_of(call->cage, call->arg[0]);
    if (which < 0)
        return lind_forward(number, call);
    if (which % 2 != end)
        return -LIND_EBADF;
    if (call->arg[2].value > LIND_IOV_MAX)
        return -LIND_EINVAL;
    for (uint64_t i = 0; i < call->arg[2].value; i++) {
        lind_iovec_t v;
        int result = lind_copy_in(&v, (lind_arg_t){call->arg[1].value + i * sizeof v, call->arg[1].cage}, sizeof v);
        if (result < 0)
            return result;
        if (v.length == 0)
            continue;
        lind_arg_t memory = {v.base, lind_iovec_cage(call, 1)};
        uint64_t bytes = v.length < LIND_RW_MAX ? v.length : LIND_RW_MAX;
        size_t index = (size_t)which / 2;
        return end == READ_END ? read_pipe(call, index, memory, bytes) : write_pipe(call, index, memory, bytes);
    }
    return 0;
}

LIND_HANDLER(readv)
{
    return move_first(call, LIND_SYS_READV, READ_END);
}

LIND_HANDLER(writev)
{
    return move_first(call, LIND_SYS_WRITEV, WRITE_END);
}

// fcntl: the flags of an open file are this grate's; all else is about the descriptor.
LIND_HANDLER(fcntl)
{
    int command = (int)call->arg[1].value;
    int64_t which = command == LIND_F_GETFL || command == LIND_F_SETFL ? end_of(call->cage, call->arg[0]) : -1;
    if (which < 0)
        return lind_forward(LIND_SYS_FCNTL, call);
    bool *nonblock = &pipes[which / 2].nonblock[which % 2];
    lind_lock(&mu);
    int result = 0;
    if (command == LIND_F_GETFL)
        result = (*nonblock ? LIND_O_NONBLOCK : 0) | (int)(which % 2); // O_RDONLY or O_WRONLY
    else
        *nonblock = (call->arg[2].value & LIND_O_NONBLOCK) != 0;
    lind_unlock(&mu);
    return result;
}

// --- main ---------------------------------------------------------------------------------------------------------------------

static int usage(void)
{
    lind_complain("usage: pipe [-s BYTES]    4096 to 1048576, a power of two\n", NULL);
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t child = lind_child_cage();
    if (argc == 3 && strcmp(argv[1], "-s") == 0) {
        if (!lind_parse_u64(argv[2], LIND_ALLOC_MAX, &capacity) || capacity < PIPE_BUF || (capacity & (capacity - 1)))
            return usage();
    } else if (argc != 1) {
        return usage();
    }
    if (child == 0) {
        lind_complain("pipe: this is a grate: start it with lindbridge run --grate\n", NULL);
        return 2;
    }
    const struct {
        uint32_t call;
        lind_handler_t serve;
    } handlers[] = {
        {LIND_SYS_PIPE, pipe},   {LIND_SYS_PIPE2, pipe2},   {LIND_SYS_READ, read},   {LIND_SYS_WRITE, write},
        {LIND_SYS_READV, readv}, {LIND_SYS_WRITEV, writev}, {LIND_SYS_FCNTL, fcntl},
    };
    if (lind_fd_on_close(closed) != 0) {
        lind_complain("pipe: cannot have files of its own\n", NULL);
        return 1;
    }
    for (size_t i = 0; i < sizeof handlers / sizeof handlers[0]; i++)
        if (lind_register_handler(child, handlers[i].call, handlers[i].serve) != 0) {
            lind_complain("pipe: cannot register a handler\n", NULL);
            return 1;
        }
    if (lind_grate_serve() < 0) {
        lind_complain("pipe: cannot serve\n", NULL);
        return 1;
    }
    char buffer[128];
    lind_text_t line = LIND_TEXT(buffer);
    lind_put(&line, "pipe: pipes ");
    lind_put_u64(&line, opened);
    lind_put(&line, ", bytes ");
    lind_put_u64(&line, moved);
    lind_put(&line, "\n");
    lind_flush(&line, 2);
    return 0;
}
