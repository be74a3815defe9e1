// lind-echo poll|epoll COUNT: a TCP server on the loopback interface that sends back what it gets, by system calls of the Lind
// ABI alone, with one thread and poll(2) or epoll(7). It prints the port that it listens at, serves until COUNT connections
// have come and gone, prints how many bytes it has sent back, and exits with 0.
#include "lind.h"
#include "lind_rt.h"

enum {
    CONNECTIONS = 1000,
    PIECE = 4096,
    SOL_TCP = 6,
    TCP_NODELAY = 1,
};

// A connection, by its descriptor: what was read and not written yet.
typedef struct {
    bool open, over; // over: the peer sends nothing more
    uint32_t from, to;
    char data[PIECE];
} connection_t;

static connection_t connections[CONNECTIONS + 16];
static int listener, gone, open_now, peak;
static uint64_t bytes;

static int must(int result, const char *what)
{
    if (result >= 0)
        return result;
    char buffer[128];
    lind_text_t line = LIND_TEXT(buffer);
    lind_put(&line, "lind-echo: ");
    lind_put(&line, what);
    lind_put(&line, " answered ");
    lind_put_i64(&line, result);
    lind_put(&line, "\n");
    lind_flush(&line, 2);
    lind_exit(1);
}

static void listen_and_tell(void)
{
    lind_sockaddr_in_t name = {.family = LIND_AF_INET, .address = {127, 0, 0, 1}};
    uint32_t size = sizeof name;
    listener = must(lind_syscall3(LIND_SYS_SOCKET, lind_num(LIND_AF_INET), lind_num(LIND_SOCK_STREAM | LIND_O_NONBLOCK),
                                  lind_num(0)),
                    "socket");
    must(lind_syscall3(LIND_SYS_BIND, lind_num(listener), lind_ptr(&name), lind_num(size)), "bind");
    must(lind_syscall2(LIND_SYS_LISTEN, lind_num(listener), lind_num(CONNECTIONS)), "listen");
    must(lind_syscall3(LIND_SYS_GETSOCKNAME, lind_num(listener), lind_ptr(&name), lind_ptr(&size)), "getsockname");
    char buffer[64];
    lind_text_t line = LIND_TEXT(buffer);
    lind_put(&line, "port ");
    lind_put_u64(&line, (uint64_t)name.port[0] << 8 | name.port[1]);
    lind_put(&line, "\n");
    lind_flush(&line, 1);
}

// The next connection, or -1 if there is none now.
static int next_connection(void)
{
    int fd = lind_syscall4(LIND_SYS_ACCEPT4, lind_num(listener), lind_num(0), lind_num(0), lind_num(LIND_O_NONBLOCK));
    if (fd == -LIND_EAGAIN)
        return -1;
    must(fd, "accept4");
    if (fd >= CONNECTIONS + 16)
        lind_exit(3);
    static const int one = 1;
    must(lind_syscall6(LIND_SYS_SETSOCKOPT, lind_cage_id(), lind_num(fd), lind_num(SOL_TCP), lind_num(TCP_NODELAY),
                       lind_ptr(&one), lind_num(sizeof one), LIND_NONE),
         "setsockopt");
    connection_t *c = &connections[fd];
    c->open = true;
    c->over = false;
    c->from = c->to = 0;
    if (++open_now > peak)
        peak = open_now;
    return fd;
}

// Reads and writes as far as that goes without waiting. Answers what the connection waits for now, 0 if it is closed.
static int serve(int fd)
{
    connection_t *c = &connections[fd];
    for (;;) {
        while (c->from < c->to) {
            int n = lind_write(fd, c->data + c->from, c->to - c->from);
            if (n == -LIND_EAGAIN)
                return LIND_POLLOUT;
            c->from += (uint32_t)must(n, "write");
            bytes += (uint64_t)n;
        }
        if (c->over)
            break;
        int n = lind_read(fd, c->data, PIECE);
        if (n == -LIND_EAGAIN)
            return LIND_POLLIN;
        must(n, "read");
        c->from = 0;
        c->to = (uint32_t)n;
        c->over = n == 0;
    }
    must(lind_close(fd), "close");
    c->open = false;
    gone++;
    open_now--;
    return 0;
}

static void serve_by_poll(int count)
{
    static lind_pollfd_t fds[CONNECTIONS + 1];
    int n = 1;
    fds[0] = (lind_pollfd_t){listener, LIND_POLLIN, 0};
    while (gone < count) {
        must(lind_syscall3(LIND_SYS_POLL, lind_ptr(fds), lind_num(n), lind_num(-1)), "poll");
        int left = 1, had = n;
        for (int i = 1; i < had; i++) {
            if (fds[i].revents)
                fds[i].events = (int16_t)serve(fds[i].fd);
            if (fds[i].events)
                fds[left++] = fds[i];
        }
        n = left;
        for (int fd; fds[0].revents && n <= CONNECTIONS && (fd = next_connection()) >= 0;)
            fds[n++] = (lind_pollfd_t){fd, LIND_POLLIN, 0};
    }
}

static void change(int epoll, int op, int fd, int events)
{
    lind_epoll_event_t event = {(uint32_t)events, (uint64_t)fd | UINT64_C(0xfeed) << 32};
    must(lind_syscall4(LIND_SYS_EPOLL_CTL, lind_num(epoll), lind_num(op), lind_num(fd), lind_ptr(&event)), "epoll_ctl");
}

static void serve_by_epoll(int count)
{
    static lind_epoll_event_t events[64];
    int epoll = must(lind_syscall1(LIND_SYS_EPOLL_CREATE1, lind_num(0)), "epoll_create1");
    change(epoll, LIND_EPOLL_CTL_ADD, listener, LIND_POLLIN);
    while (gone < count) {
        int n = must(lind_syscall4(LIND_SYS_EPOLL_WAIT, lind_num(epoll), lind_ptr(events), lind_num(64), lind_num(-1)),
                     "epoll_wait");
        for (int i = 0; i < n; i++) {
            int fd = (int)(uint32_t)events[i].data;
            if (events[i].data >> 32 != 0xfeed)
                lind_exit(4);
            if (fd == listener) {
                while ((fd = next_connection()) >= 0)
                    change(epoll, LIND_EPOLL_CTL_ADD, fd, LIND_POLLIN);
                continue;
            }
            int waits = serve(fd); // a closed one has left by itself
            if (waits)
                change(epoll, LIND_EPOLL_CTL_MOD, fd, waits);
        }
    }
    must(lind_close(epoll), "close");
}

int main(int argc, char **argv)
{
    uint64_t count = 0;
    bool by_epoll = argc == 3 && strcmp(argv[1], "epoll") == 0;
    if (argc != 3 || !(by_epoll || strcmp(argv[1], "poll") == 0) || !lind_parse_u64(argv[2], CONNECTIONS, &count)) {
        lind_complain("usage: lind-echo poll|epoll COUNT    at most 1000\n", NULL);
        return 2;
    }
    listen_and_tell();
    if (by_epoll)
        serve_by_epoll((int)count);
    else
        serve_by_poll((int)count);
    char buffer[128];
    lind_text_t line = LIND_TEXT(buffer);
    lind_put(&line, "connections ");
    lind_put_u64(&line, (uint64_t)gone);
    lind_put(&line, ", at once ");
    lind_put_u64(&line, (uint64_t)peak);
    lind_put(&line, ", bytes ");
    lind_put_u64(&line, bytes);
    lind_put(&line, "\n");
    return lind_flush(&line, 1) ? 0 : 1;
}
