// lind-poll: waits for the ends of pipes and sockets together, by poll(2), select(2) and epoll(7), through duplicates too. Its
// pipes may be the kernel's or, under the grate pipe, that grate's: the answers are the same. It checks each, prints one line
// at the end and exits with 0; or it prints what was wrong and exits with 1.
#include "lind.h"
#include "lind_rt.h"

enum { AF_UNIX = 1 };

static int checks;

static void expect(int64_t result, int64_t want, const char *what)
{
    checks++;
    if (result == want)
        return;
    char buffer[256];
    lind_text_t line = LIND_TEXT(buffer);
    lind_put(&line, "lind-poll: ");
    lind_put(&line, what);
    lind_put(&line, " answered ");
    lind_put_i64(&line, result);
    lind_put(&line, ", not ");
    lind_put_i64(&line, want);
    lind_put(&line, "\n");
    lind_flush(&line, 2);
    lind_exit(1);
}

static int r, w, again, a, b; // a pipe, a duplicate of its end to read from, a pair of sockets

static int poll_all(int timeout, int *pipe_end, int *duplicate, int *socket)
{
    lind_pollfd_t fds[] = {{r, LIND_POLLIN, 0}, {again, LIND_POLLIN, 0}, {a, LIND_POLLIN, 0}, {-1, LIND_POLLIN, 0}};
    int n = lind_syscall3(LIND_SYS_POLL, lind_ptr(fds), lind_num(4), lind_num(timeout));
    *pipe_end = fds[0].revents;
    *duplicate = fds[1].revents;
    *socket = fds[2].revents;
    return n;
}

static int select_all(uint64_t *set)
{
    int64_t time[2] = {0, 0};
    uint64_t read[16] = {0};
    read[0] = UINT64_C(1) << r | UINT64_C(1) << again | UINT64_C(1) << a;
    int n = lind_syscall6(LIND_SYS_SELECT, lind_cage_id(), lind_num(64), lind_ptr(read), lind_num(0), lind_num(0),
                          lind_ptr(time), LIND_NONE);
    *set = read[0];
    return n;
}

static int wait_all(int epoll, uint64_t *events, int timeout)
{
    lind_epoll_event_t got[8];
    int n = lind_syscall4(LIND_SYS_EPOLL_WAIT, lind_num(epoll), lind_ptr(got), lind_num(8), lind_num(timeout));
    *events = 0;
    for (int i = 0; i < n; i++)
        *events += (uint64_t)got[i].events << (16 * got[i].data);
    return n;
}

int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    int32_t pair[2];
    expect(lind_syscall2(LIND_SYS_PIPE2, lind_ptr(pair), lind_num(LIND_O_NONBLOCK)), 0, "pipe2");
    r = pair[0], w = pair[1];
    expect(lind_syscall4(LIND_SYS_SOCKETPAIR, lind_num(AF_UNIX), lind_num(LIND_SOCK_STREAM | LIND_O_NONBLOCK), lind_num(0),
                         lind_ptr(pair)),
           0, "socketpair");
    a = pair[0], b = pair[1];
    again = lind_syscall1(LIND_SYS_DUP, lind_num(r));
    int epoll = lind_syscall1(LIND_SYS_EPOLL_CREATE1, lind_num(0));
    int fds[3] = {r, again, a};
    for (uint64_t i = 0; i < 3; i++) {
        lind_epoll_event_t event = {LIND_POLLIN, i};
        expect(lind_syscall4(LIND_SYS_EPOLL_CTL, lind_num(epoll), lind_num(LIND_EPOLL_CTL_ADD), lind_num(fds[i]),
                             lind_ptr(&event)),
               0, "epoll_ctl");
    }
    int x, y, z;
    uint64_t set, events;
    char data[16];
    expect(lind_read(r, data, 1), -LIND_EAGAIN, "read of an empty pipe");
    expect(poll_all(0, &x, &y, &z), 0, "poll of nothing");
    expect(select_all(&set), 0, "select of nothing");
    expect(wait_all(epoll, &events, 0), 0, "epoll_wait for nothing");

    expect(lind_write(w, "hello", 5), 5, "write");
    expect(poll_all(-1, &x, &y, &z), 2, "poll of a pipe");
    expect(x | y << 8 | z << 16, LIND_POLLIN | LIND_POLLIN << 8, "poll's events");
    expect(select_all(&set), 2, "select of a pipe");
    expect((int64_t)set, (int64_t)(UINT64_C(1) << r | UINT64_C(1) << again), "select's set");
    expect(wait_all(epoll, &events, -1), 2, "epoll_wait for a pipe");
    expect((int64_t)events, LIND_POLLIN | LIND_POLLIN << 16, "epoll's events");

    expect(lind_write(b, "x", 1), 1, "write to a socket");
    expect(poll_all(-1, &x, &y, &z), 3, "poll of both");
    expect(select_all(&set), 3, "select of both");
    expect(wait_all(epoll, &events, -1), 3, "epoll_wait for both");

    expect(lind_read(again, data, sizeof data), 5, "read");
    expect(poll_all(-1, &x, &y, &z), 1, "poll of a socket");
    expect(wait_all(epoll, &events, -1), 1, "epoll_wait for a socket");
    expect((int64_t)events, (int64_t)LIND_POLLIN << 32, "epoll's events of a socket");
    expect(lind_read(a, data, 1), 1, "read of a socket");

    expect(lind_close(w), 0, "close");
    // However long the grate takes to hear of it: also if that is between the looks at one of the two and the other.
    int ready;
    while ((ready = poll_all(-1, &x, &y, &z)) == 1)
        ;
    expect(ready, 2, "poll of a pipe without a writer");
    expect(x & (LIND_POLLHUP | LIND_POLLIN), LIND_POLLHUP, "poll's events of a hangup");
    expect(lind_read(r, data, 1), 0, "read of a pipe without a writer");
    expect(wait_all(epoll, &events, -1), 2, "epoll_wait for a hangup");
    expect(lind_close(r), 0, "close");
    expect(lind_close(again), 0, "close of a duplicate");
    expect(wait_all(epoll, &events, 0), 0, "epoll_wait for what is closed");

    // More than a pipe holds, in turns.
    expect(lind_syscall2(LIND_SYS_PIPE2, lind_ptr(pair), lind_num(LIND_O_NONBLOCK)), 0, "pipe2");
    r = pair[0], w = pair[1];
    static char block[10000];
    uint64_t sent = 0, got = 0;
    while (sent < 1000000 || got < sent) {
        lind_pollfd_t both[] = {{w, sent < 1000000 ? LIND_POLLOUT : 0, 0}, {r, LIND_POLLIN, 0}};
        expect(lind_syscall3(LIND_SYS_POLL, lind_ptr(both), lind_num(2), lind_num(-1)) > 0, 1, "poll of both ends");
        if (both[0].revents & LIND_POLLOUT) {
            int n = lind_write(w, block, sizeof block);
            expect(n > 0, 1, "write of a block");
            sent += (uint64_t)n;
        }
        if (both[1].revents & LIND_POLLIN) {
            int n = lind_read(r, block, 7777);
            expect(n > 0, 1, "read of a block");
            got += (uint64_t)n;
        }
    }
    expect((int64_t)got, (int64_t)sent, "all that was sent");

    char buffer[64];
    lind_text_t line = LIND_TEXT(buffer);
    lind_put(&line, "lind-poll: ok\n");
    return lind_flush(&line, 1) ? 0 : 1;
}
