// deny [-d FD=PATH]... [-r RULE]... [POLICY]: a grate that refuses system calls of the program above it by a policy of calls
// and paths. README.md has the manual and the grammar.
//
// The program is hostile, and may have threads that change a path, or what a descriptor stands for, while a call is on its
// way. So that what was asked about is what is done:
//
//   - A path is copied in once, and the copy is asked about and passed on.
//   - A path relative to a descriptor is passed on relative to a root descriptor (-d), by the very text that was asked about,
//     without "." and "..": which directory the program's descriptor stands for does not matter then.
//   - The root descriptors cannot be closed or replaced.
//
// So the table of descriptors' paths need not be exact. A wrong entry leads to another path that was asked about.
#include "fdpaths.h"
#include "lind.h"
#include "lind_calls.h"
#include "lind_path.h"
#include "lind_rt.h"
#include "policy.h"

LIND_GRATE;

enum {
    MAX_ROOTS = 16,
    POLICY_BYTES = 65536,
    FIRST_PREOPEN = 3,
    LAST_PREOPEN = 15,

    O_ACCMODE_ = 03,
    O_CREAT_ = 0100,
    O_TRUNC_ = 01000,
    AT_REMOVEDIR_ = 0x200,
    AT_EMPTY_PATH_ = 0x1000,
    F_DUPFD_ = 0,
    F_DUPFD_CLOEXEC_ = 1030,
};

typedef struct {
    int32_t fd;
    char path[LIND_PATH_MAX];
} root_t;

static policy_t policy;         // immutable once it serves
static root_t roots[MAX_ROOTS]; // immutable once it serves
static int root_count;          // immutable once it serves
static fdpaths_t fdpaths;       // has its own lock

static const root_t *root_of_fd(int32_t fd)
{
    for (int i = 0; i < root_count; i++)
        if (roots[i].fd == fd)
            return &roots[i];
    return NULL;
}

// The root that path lies beneath, the innermost one; NULL if there is none.
static const root_t *root_of_path(const char *path)
{
    const root_t *best = NULL;
    for (int i = 0; i < root_count; i++)
        if (lind_path_beneath(roots[i].path, path) && (!best || strlen(roots[i].path) > strlen(best->path)))
            best = &roots[i];
    return best;
}

// The path of a descriptor of a cage. False if it is unknown.
static bool path_of_fd(uint64_t cage, int32_t fd, char *out)
{
    const root_t *root = root_of_fd(fd);
    if (root) {
        memcpy(out, root->path, strlen(root->path) + 1);
        return true;
    }
    return fdpaths_get(&fdpaths, cage, fd, out);
}

// A path argument of a call, looked at: what is asked about, and what is passed on.
typedef struct {
    bool given;               // the call has a path here that is not NULL
    bool known;               // path is what it leads to
    int32_t dirfd;            // passed on
    char path[LIND_PATH_MAX]; // asked about
    char text[LIND_PATH_MAX]; // passed on
} target_t;

// What a root descriptor's own directory is called relative to it, and what is beneath it.
static const char *beneath_root(const root_t *root, const char *path)
{
    size_t n = strcmp(root->path, "/") == 0 ? 0 : strlen(root->path);
    path += n;
    while (*path == '/')
        path++;
    return *path ? path : ".";
}

// Copies in and resolves the path argument at, relative to the descriptor dirfd. 0, or an error to answer.
static int look_at(target_t *t, const lind_call_t *call, int32_t dirfd, lind_arg_t at, bool empty_is_fd)
{
    char base[LIND_PATH_MAX];
    int how = 0;
    t->given = at.value != 0;
    t->known = false;
    t->dirfd = dirfd;
    t->path[0] = 0;
    t->text[0] = 0;
    if (!t->given) {
        t->known = path_of_fd(call->cage, dirfd, t->path); // the descriptor itself is meant
        return 0;
    }
    int n = lind_copy_in_string(t->text, sizeof t->text, at);
    if (n < 0)
        return n;
    if (n == 0) {
        if (!empty_is_fd)
            return -LIND_ENOENT;
        t->known = path_of_fd(call->cage, dirfd, t->path);
        return 0;
    }
    bool absolute = t->text[0] == '/';
    if (!absolute && !path_of_fd(call->cage, dirfd, base))
        return 0;
    int error = lind_path_join(t->path, absolute ? "/" : base, t->text, &how);
    if (error != 0)
        return error;
    t->known = true;
    const root_t *root = absolute ? NULL : root_of_path(t->path);
    if (!absolute && !root)
        return -LIND_EXDEV; // as what leads out of a directory is answered
    const char *text = root ? beneath_root(root, t->path) : t->path;
    size_t length = strlen(text);
    if (length + 2 > sizeof t->text)
        return -LIND_ENAMETOOLONG;
    memcpy(t->text, text, length + 1);
    // A slash at its end, or a last "." or "..", says that it is a directory. "." is one.
    if ((how & LIND_PATH_IS_DIR) && text[length - 1] != '/' && strcmp(text, ".") != 0) {
        t->text[length] = '/';
        t->text[length + 1] = 0;
    }
    t->dirfd = root ? root->fd : LIND_AT_FDCWD;
    return 0;
}

static int ask(uint32_t number, action_t action, bool modifies, bool tree, const target_t *t)
{
    question_t q = {number, action, modifies, tree, t && t->known ? t->path : NULL};
    return -policy_ask(&policy, &q);
}

// Where a call has its descriptors and paths: argument numbers, or -1. A path without a descriptor is relative to the working
// directory.
typedef struct {
    uint16_t number;
    int8_t dirfd, path, dirfd2, path2, flags;
} shape_t;

static const shape_t shapes[] = {
    {LIND_SYS_OPEN, -1, 0, -1, -1, 1},       {LIND_SYS_OPENAT, 0, 1, -1, -1, 2},
    {LIND_SYS_CREAT, -1, 0, -1, -1, -1},     {LIND_SYS_STAT, -1, 0, -1, -1, -1},
    {LIND_SYS_LSTAT, -1, 0, -1, -1, -1},     {LIND_SYS_NEWFSTATAT, 0, 1, -1, -1, 3},
    {LIND_SYS_STATX, 0, 1, -1, -1, 2},       {LIND_SYS_ACCESS, -1, 0, -1, -1, -1},
    {LIND_SYS_FACCESSAT, 0, 1, -1, -1, -1},  {LIND_SYS_FACCESSAT2, 0, 1, -1, -1, 3},
    {LIND_SYS_MKDIR, -1, 0, -1, -1, -1},     {LIND_SYS_MKDIRAT, 0, 1, -1, -1, -1},
    {LIND_SYS_RMDIR, -1, 0, -1, -1, -1},     {LIND_SYS_UNLINK, -1, 0, -1, -1, -1},
    {LIND_SYS_UNLINKAT, 0, 1, -1, -1, 2},    {LIND_SYS_RENAME, -1, 0, -1, 1, -1},
    {LIND_SYS_RENAMEAT, 0, 1, 2, 3, -1},     {LIND_SYS_RENAMEAT2, 0, 1, 2, 3, 4},
    {LIND_SYS_LINK, -1, 0, -1, 1, -1},       {LIND_SYS_LINKAT, 0, 1, 2, 3, 4},
    {LIND_SYS_SYMLINK, -1, 1, -1, -1, -1},   {LIND_SYS_SYMLINKAT, 1, 2, -1, -1, -1},
    {LIND_SYS_READLINK, -1, 0, -1, -1, -1},  {LIND_SYS_READLINKAT, 0, 1, -1, -1, -1},
    {LIND_SYS_TRUNCATE, -1, 0, -1, -1, -1},  {LIND_SYS_CHMOD, -1, 0, -1, -1, -1},
    {LIND_SYS_FCHMODAT, 0, 1, -1, -1, -1},   {LIND_SYS_CHOWN, -1, 0, -1, -1, -1},
    {LIND_SYS_LCHOWN, -1, 0, -1, -1, -1},    {LIND_SYS_FCHOWNAT, 0, 1, -1, -1, 4},
    {LIND_SYS_UTIME, -1, 0, -1, -1, -1},     {LIND_SYS_UTIMES, -1, 0, -1, -1, -1},
    {LIND_SYS_FUTIMESAT, 0, 1, -1, -1, -1},  {LIND_SYS_UTIMENSAT, 0, 1, -1, -1, 3},
    {LIND_SYS_MKNOD, -1, 0, -1, -1, -1},     {LIND_SYS_MKNODAT, 0, 1, -1, -1, -1},
    {LIND_SYS_CHDIR, -1, 0, -1, -1, -1},     {LIND_SYS_CHROOT, -1, 0, -1, -1, -1},
    {LIND_SYS_EXECVE, -1, 0, -1, -1, -1},    {LIND_SYS_EXECVEAT, 0, 1, -1, -1, 4},
    {LIND_SYS_STATFS, -1, 0, -1, -1, -1},
};

static const shape_t *shape_of(uint32_t number)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (shapes[i].number == number)
            return &shapes[i];
    return NULL;
}

static int32_t dirfd_arg(const lind_call_t *call, int i)
{
    return i < 0 ? LIND_AT_FDCWD : (int32_t)call->arg[i].value;
}

// Puts what was looked at in the place of what came.
static void replace(lind_call_t *call, int dirfd, int path, const target_t *t)
{
    if (path < 0 || !t->given)
        return;
    call->arg[path] = lind_ptr(t->text);
    if (dirfd >= 0)
        call->arg[dirfd] = lind_num(t->dirfd);
}

// Notes what path the descriptor that a call answered stands for, NULL if that is unknown, and answers the call's result.
static int opened(uint64_t cage, int result, const char *path)
{
    if (result < 0)
        return result;
    if (root_of_fd(result) && !(path && strcmp(path, root_of_fd(result)->path) == 0)) {
        // A root that the program did not have: another directory must not take its place.
        lind_syscall6(LIND_SYS_CLOSE, cage, lind_num(result), LIND_NONE, LIND_NONE, LIND_NONE, LIND_NONE, LIND_NONE);
        return -LIND_EMFILE;
    }
    if (path)
        fdpaths_set(&fdpaths, cage, result, path);
    else
        fdpaths_drop(&fdpaths, cage, result);
    return result;
}

// A call on one path or two.
static int serve_path(uint32_t number, action_t action, bool modifies, const lind_call_t *came)
{
    const shape_t *shape = shape_of(number);
    lind_call_t call = *came;
    target_t first, second;
    uint64_t flags = shape && shape->flags >= 0 ? call.arg[shape->flags].value : 0;
    if (action == ACTION_OPEN) // openat2 has its flags in memory: it may be for writing
        modifies = !shape || number == LIND_SYS_CREAT || (flags & (O_CREAT_ | O_TRUNC_ | O_ACCMODE_)) != 0;
    if (number == LIND_SYS_UNLINKAT && (flags & AT_REMOVEDIR_))
        action = ACTION_RMDIR;
    if (!policy.has_paths) {
        int refused = ask(number, action, modifies, false, NULL);
        return refused ? refused : lind_forward(number, came);
    }
    if (!shape)
        return -LIND_ENOSYS;
    bool empty_is_fd = (number == LIND_SYS_NEWFSTATAT || number == LIND_SYS_STATX || number == LIND_SYS_FACCESSAT2 ||
                        number == LIND_SYS_LINKAT || number == LIND_SYS_FCHOWNAT || number == LIND_SYS_EXECVEAT ||
                        number == LIND_SYS_UTIMENSAT) &&
                       (flags & AT_EMPTY_PATH_);
    bool tree = action == ACTION_RENAME;
    int error = look_at(&first, &call, dirfd_arg(&call, shape->dirfd), call.arg[shape->path], empty_is_fd);
    // What is forbidden is answered before what is wrong: so that a refusal says nothing of what is there.
    if (error == 0)
        error = ask(number, action, modifies, tree, &first);
    // A new name for what may not be opened by its old one would be a way to open it.
    if (error == 0 && (action == ACTION_RENAME || action == ACTION_LINK))
        error = ask(LIND_SYS_OPENAT, ACTION_OPEN, false, true, &first);
    if (error == 0 && shape->path2 >= 0) {
        error = look_at(&second, &call, dirfd_arg(&call, shape->dirfd2), call.arg[shape->path2], false);
        if (error == 0)
            error = ask(number, action, modifies, tree, &second);
        replace(&call, shape->dirfd2, shape->path2, &second);
    }
    if (error != 0)
        return error;
    replace(&call, shape->dirfd, shape->path, &first);
    int result = lind_forward(number, &call);
    return action == ACTION_OPEN ? opened(call.cage, result, first.known ? first.path : NULL) : result;
}

// dup and its kin, close: the table of paths follows them.
static int serve_fd(uint32_t number, const lind_call_t *call)
{
    char path[LIND_PATH_MAX];
    int32_t fd = (int32_t)call->arg[0].value, to = (int32_t)call->arg[1].value;
    switch (number) {
    case LIND_SYS_CLOSE:
        if (root_of_fd(fd))
            return -LIND_EBUSY;
        fdpaths_drop(&fdpaths, call->cage, fd);
        return lind_forward(number, call);
    case LIND_SYS_DUP2:
    case LIND_SYS_DUP3:
        if (root_of_fd(to) && to != fd)
            return -LIND_EBUSY;
        break;
    case LIND_SYS_FCNTL:
        if (to != F_DUPFD_ && to != F_DUPFD_CLOEXEC_)
            return lind_forward(number, call);
        break;
    }
    bool known = path_of_fd(call->cage, fd, path);
    return opened(call->cage, lind_forward(number, call), known ? path : NULL);
}

// Calls that take paths in ways that no rule knows, or that make other calls: with path rules nobody may make them.
static bool goes_around(uint32_t number)
{
    enum {
        USELIB = 134,
        PIVOT_ROOT = 155,
        ACCT = 163,
        MOUNT = 165,
        SWAPOFF = 168,
        SETXATTR = 188,
        FREMOVEXATTR = 199,
        INOTIFY_ADD_WATCH = 254,
        FANOTIFY_MARK = 301,
        OPEN_BY_HANDLE_AT = 304,
        IO_URING_SETUP = 425,
        FSPICK = 433,
        MOUNT_SETATTR = 442,
        QUOTACTL_FD = 443,
    };
    return number == USELIB || number == PIVOT_ROOT || number == ACCT || (number >= MOUNT && number <= SWAPOFF) ||
           (number >= SETXATTR && number <= FREMOVEXATTR) || number == INOTIFY_ADD_WATCH ||
           (number >= FANOTIFY_MARK && number <= OPEN_BY_HANDLE_AT) || (number >= IO_URING_SETUP && number <= FSPICK) ||
           number == MOUNT_SETATTR || number == QUOTACTL_FD;
}

static bool follows_fds(uint32_t number)
{
    return number == LIND_SYS_CLOSE || number == LIND_SYS_DUP || number == LIND_SYS_DUP2 || number == LIND_SYS_DUP3 ||
           number == LIND_SYS_FCNTL;
}

static int serve(uint32_t number, const lind_call_t *call)
{
    bool modifies;
    action_t action = policy_action(number, &modifies);
    if (action != ACTION_NONE)
        return serve_path(number, action, modifies, call);
    int error = ask(number, ACTION_NONE, false, false, NULL);
    if (error != 0)
        return error;
    if (policy.has_paths && goes_around(number))
        return -LIND_ENOSYS;
    if (policy.has_paths && follows_fds(number))
        return serve_fd(number, call);
    return lind_forward(number, call);
}

LIND_NUMBERED_HANDLERS(serve);

// 3i's own calls. By two of them a program could rid itself of its handlers (see policy_ask), but a grate that is stacked on
// this one needs them: it may make another cage's calls come to itself, and hand its own handlers on, since whatever it makes
// of these calls comes here.
LIND_HANDLER(serve_register)
{
    uint64_t target = call->arg[0].value, grate = call->arg[1].cage;
    if (target != call->cage && (grate == call->cage || grate == LIND_CAGE_MATCHALL))
        return lind_forward(LIND_CALL_REGISTER_HANDLER, call);
    return serve(LIND_CALL_REGISTER_HANDLER, call);
}

LIND_HANDLER(serve_copy_data)
{
    return serve(LIND_CALL_COPY_DATA, call);
}

LIND_HANDLER(serve_copy_table)
{
    if (call->arg[0].value == call->cage && call->arg[0].cage != call->cage)
        return lind_forward(LIND_CALL_COPY_HANDLER_TABLE, call);
    return serve(LIND_CALL_COPY_HANDLER_TABLE, call);
}

// What has no name.
LIND_HANDLER(serve_other)
{
    (void)call;
    return -LIND_EPERM;
}

// A cage ends: its descriptors are no more.
LIND_HANDLER(serve_end)
{
    fdpaths_drop_cage(&fdpaths, call->arg[0].value);
    return lind_forward(LIND_CALL_HARSH_CAGE_EXIT, call);
}

static bool register_all(uint64_t child)
{
    bool ok = true;
    for (uint32_t i = 0; i < LIND_EACH_CALL_COUNT; i++)
        if (policy_concerns(&policy, i) || (policy.has_paths && (follows_fds(i) || goes_around(i))))
            ok = ok && lind_register_handler(child, i, lind_numbered_handlers[i]) == 0;
    for (uint32_t i = LIND_EACH_CALL_COUNT; i < LIND_CALL_MAX; i++) {
        lind_handler_t handler = i == LIND_CALL_REGISTER_HANDLER     ? serve_register
                                 : i == LIND_CALL_COPY_DATA          ? serve_copy_data
                                 : i == LIND_CALL_COPY_HANDLER_TABLE ? serve_copy_table
                                                                     : serve_other;
        if (i != LIND_CALL_GRATE_SERVE && i != LIND_CALL_HARSH_CAGE_EXIT && policy_concerns(&policy, i))
            ok = ok && lind_register_handler(child, i, handler) == 0;
    }
    return ok && lind_register_handler(child, LIND_CALL_HARSH_CAGE_EXIT, serve_end) == 0;
}

// --- Arguments ----------------------------------------------------------------------------------------------------------

// Opens a file of this grate's own: relative to the directories that it was given, the first that has it.
static int open_policy(const char *path)
{
    int error = -LIND_ENOENT;
    while (*path == '/')
        path++;
    for (int dirfd = FIRST_PREOPEN; dirfd <= LAST_PREOPEN; dirfd++) {
        int fd = lind_openat(dirfd, path, 0, 0);
        if (fd >= 0)
            return fd;
        if (fd != -LIND_EBADF && fd != -LIND_ENOTDIR)
            error = fd;
    }
    return error;
}

static bool complain_of_line(const char *file, size_t line, const char *why)
{
    char digits[24];
    lind_text_t number = LIND_TEXT(digits);
    lind_put_u64(&number, line);
    digits[number.length] = 0;
    lind_complain("deny: ", file, ":", digits, ": ", why, "\n", NULL);
    return false;
}

static bool read_policy(const char *path)
{
    static char text[POLICY_BYTES + 1]; // only main comes here
    size_t length = 0, line;
    const char *why;
    int fd = open_policy(path), n = 0;
    if (fd >= 0) {
        while (length < sizeof text && (n = lind_read(fd, text + length, sizeof text - length)) > 0)
            length += (size_t)n;
        lind_close(fd);
    }
    if (fd < 0 || n < 0) {
        const char *error = lind_errno_name(fd < 0 ? fd : n);
        lind_complain("deny: cannot read ", path, ": ", error ? error : "unknown error", "\n", NULL);
        return false;
    }
    if (length == sizeof text) {
        lind_complain("deny: ", path, ": longer than 64 KiB\n", NULL);
        return false;
    }
    if ((line = policy_parse(&policy, text, length, &why)) != 0)
        return complain_of_line(path, line, why);
    return true;
}

// FD=PATH
static bool parse_root(char *text)
{
    uint64_t fd;
    char *path = strchr(text, '=');
    if (!path || root_count == MAX_ROOTS)
        return false;
    *path++ = 0;
    if (!lind_parse_u64(text, INT32_MAX, &fd) || root_of_fd((int32_t)fd) || path[0] != '/' ||
        lind_path_join(roots[root_count].path, "/", path, NULL) != 0)
        return false;
    roots[root_count++].fd = (int32_t)fd;
    return true;
}

static int usage(void)
{
    lind_complain("usage: deny [-d FD=PATH]... [-r RULE]... [POLICY]\n"
                  "  -d  what a directory descriptor of the program is called in the policy (3=/ if not said)\n"
                  "  -r  a rule, before those of the file POLICY\n",
                  NULL);
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t child = lind_child_cage();
    const char *file = NULL, *why;
    bool rules = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-d") == 0 && i + 1 < argc) {
            if (!parse_root(argv[++i]))
                return usage();
        } else if (strcmp(argv[i], "-r") == 0 && i + 1 < argc) {
            rules = true;
            if (policy_parse(&policy, argv[i + 1], strlen(argv[i + 1]), &why) != 0) {
                complain_of_line("-r", 1, why);
                return 2;
            }
            i++;
        } else if (argv[i][0] != '-' && !file) {
            file = argv[i];
        } else {
            return usage();
        }
    }
    if (!file && !rules)
        return usage();
    if (file && !read_policy(file))
        return 2;
    if (root_count == 0) {
        roots[root_count++] = (root_t){.fd = FIRST_PREOPEN, .path = "/"};
    }
    if (child == 0) {
        lind_complain("deny: this is a grate: start it with lindbridge run --grate\n", NULL);
        return 2;
    }
    if (!register_all(child)) {
        lind_complain("deny: cannot register handlers\n", NULL);
        return 1;
    }
    if (lind_grate_serve() < 0) {
        lind_complain("deny: cannot serve\n", NULL);
        return 1;
    }
    return 0;
}
