#include "policy.h"

#include "lind_abi.h"
#include "lind_calls.h"
#include "lind_path.h"

static const struct {
    const char *name;
    bool modifies;
} actions[ACTIONS] = {
    [ACTION_NONE] = {"", false},
    [ACTION_OPEN] = {"open", false}, // its flags say
    [ACTION_STAT] = {"stat", false},
    [ACTION_ACCESS] = {"access", false},
    [ACTION_MKDIR] = {"mkdir", true},
    [ACTION_RMDIR] = {"rmdir", true},
    [ACTION_UNLINK] = {"unlink", true},
    [ACTION_RENAME] = {"rename", true},
    [ACTION_LINK] = {"link", true},
    [ACTION_SYMLINK] = {"symlink", true},
    [ACTION_READLINK] = {"readlink", false},
    [ACTION_TRUNCATE] = {"truncate", true},
    [ACTION_CHMOD] = {"chmod", true},
    [ACTION_CHOWN] = {"chown", true},
    [ACTION_UTIME] = {"utime", true},
    [ACTION_MKNOD] = {"mknod", true},
    [ACTION_CHDIR] = {"chdir", false},
    [ACTION_EXEC] = {"execve", false},
    [ACTION_STATFS] = {"statfs", false},
};

static const struct {
    uint16_t number;
    uint8_t action;
} action_calls[] = {
    {LIND_SYS_OPEN, ACTION_OPEN},           {LIND_SYS_OPENAT, ACTION_OPEN},
    {LIND_SYS_OPENAT2, ACTION_OPEN},        {LIND_SYS_CREAT, ACTION_OPEN},
    {LIND_SYS_STAT, ACTION_STAT},           {LIND_SYS_LSTAT, ACTION_STAT},
    {LIND_SYS_NEWFSTATAT, ACTION_STAT},     {LIND_SYS_STATX, ACTION_STAT},
    {LIND_SYS_ACCESS, ACTION_ACCESS},       {LIND_SYS_FACCESSAT, ACTION_ACCESS},
    {LIND_SYS_FACCESSAT2, ACTION_ACCESS},   {LIND_SYS_MKDIR, ACTION_MKDIR},
    {LIND_SYS_MKDIRAT, ACTION_MKDIR},       {LIND_SYS_RMDIR, ACTION_RMDIR},
    {LIND_SYS_UNLINK, ACTION_UNLINK},       {LIND_SYS_UNLINKAT, ACTION_UNLINK},
    {LIND_SYS_RENAME, ACTION_RENAME},       {LIND_SYS_RENAMEAT, ACTION_RENAME},
    {LIND_SYS_RENAMEAT2, ACTION_RENAME},    {LIND_SYS_LINK, ACTION_LINK},
    {LIND_SYS_LINKAT, ACTION_LINK},         {LIND_SYS_SYMLINK, ACTION_SYMLINK},
    {LIND_SYS_SYMLINKAT, ACTION_SYMLINK},   {LIND_SYS_READLINK, ACTION_READLINK},
    {LIND_SYS_READLINKAT, ACTION_READLINK}, {LIND_SYS_TRUNCATE, ACTION_TRUNCATE},
    {LIND_SYS_CHMOD, ACTION_CHMOD},         {LIND_SYS_FCHMODAT, ACTION_CHMOD},
    {LIND_SYS_CHOWN, ACTION_CHOWN},         {LIND_SYS_LCHOWN, ACTION_CHOWN},
    {LIND_SYS_FCHOWNAT, ACTION_CHOWN},      {LIND_SYS_UTIME, ACTION_UTIME},
    {LIND_SYS_UTIMES, ACTION_UTIME},        {LIND_SYS_FUTIMESAT, ACTION_UTIME},
    {LIND_SYS_UTIMENSAT, ACTION_UTIME},     {LIND_SYS_MKNOD, ACTION_MKNOD},
    {LIND_SYS_MKNODAT, ACTION_MKNOD},       {LIND_SYS_CHDIR, ACTION_CHDIR},
    {LIND_SYS_CHROOT, ACTION_CHDIR},        {LIND_SYS_EXECVE, ACTION_EXEC},
    {LIND_SYS_EXECVEAT, ACTION_EXEC},       {LIND_SYS_STATFS, ACTION_STATFS},
};

action_t policy_action(uint32_t number, bool *modifies)
{
    for (size_t i = 0; i < sizeof action_calls / sizeof *action_calls; i++)
        if (action_calls[i].number == number) {
            action_t action = (action_t)action_calls[i].action;
            *modifies = actions[action].modifies;
            return action;
        }
    *modifies = false;
    return ACTION_NONE;
}

static bool is_exit(uint32_t number)
{
    return number == LIND_SYS_EXIT || number == LIND_SYS_EXIT_GROUP;
}

// A call by which a program could rid itself of the policy.
static bool unguards(uint32_t number)
{
    return number == LIND_CALL_REGISTER_HANDLER || number == LIND_CALL_COPY_HANDLER_TABLE;
}

// Whether a rule is about a call, whatever its path.
static bool is_about(const rule_t *rule, uint32_t number, action_t action, bool modifies)
{
    switch (rule->what) {
    case WHAT_ALL:
        return true;
    case WHAT_FILE:
        return action != ACTION_NONE;
    case WHAT_MODIFY:
        return modifies;
    case WHAT_ACTION:
        return action == rule->action;
    case WHAT_CALL:
        return number == rule->number;
    }
    return true;
}

int policy_ask(const policy_t *p, const question_t *q)
{
    // What only a rule that names it can allow: a symbolic link, which gives what a path rule forbids another name that the
    // rule does not know, and what could change the handlers.
    bool named = (q->action == ACTION_SYMLINK && p->has_paths) || unguards(q->number);
    for (const rule_t *rule = p->first; rule; rule = rule->next) {
        if (!is_about(rule, q->number, q->action, q->modifies))
            continue;
        if (named && rule->allow && rule->what != WHAT_ACTION && rule->what != WHAT_CALL)
            continue;
        if (!rule->prefix) {
            // What ends a program is meant only by a rule that names it.
            if (rule->what == WHAT_ALL && !rule->allow && is_exit(q->number))
                continue;
            return rule->allow ? 0 : LIND_EPERM;
        }
        if (q->action == ACTION_NONE)
            continue;
        if (!q->path) { // it may be any path: enough to deny, not to allow
            if (!rule->allow)
                return LIND_EACCES;
            continue;
        }
        if (lind_path_beneath(rule->prefix, q->path) ||
            (!rule->allow && q->tree && lind_path_beneath(q->path, rule->prefix)))
            return rule->allow ? 0 : LIND_EACCES;
    }
    if (named)
        return LIND_EPERM;
    return p->deny_by_default && !is_exit(q->number) ? LIND_EPERM : 0;
}

bool policy_concerns(const policy_t *p, uint32_t number)
{
    bool modifies;
    action_t action = policy_action(number, &modifies);
    // With paths, every call on a path is sent by way of the descriptor that is trusted, so that all are asked about.
    if (p->has_paths && action != ACTION_NONE)
        return true;
    if (p->deny_by_default || unguards(number))
        return true;
    for (const rule_t *rule = p->first; rule; rule = rule->next)
        if (!rule->allow && is_about(rule, number, action, modifies || action == ACTION_OPEN))
            return true;
    return false;
}

// --- Parsing ------------------------------------------------------------------------------------------------------------

enum { WORD_BYTES = 64 };

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static bool is_word(const char *at, size_t n, const char *word)
{
    return strlen(word) == n && memcmp(at, word, n) == 0;
}

// What a rule is about. NULL, or what is wrong.
static const char *parse_what(rule_t *rule, const char *at, size_t n)
{
    char word[WORD_BYTES];
    if (n >= sizeof word)
        return "no system call has so long a name";
    memcpy(word, at, n);
    word[n] = 0;
    if (strcmp(word, "*") == 0) {
        rule->what = WHAT_ALL;
        return NULL;
    }
    if (strcmp(word, "file") == 0) {
        rule->what = WHAT_FILE;
        return NULL;
    }
    if (strcmp(word, "modify") == 0) {
        rule->what = WHAT_MODIFY;
        return NULL;
    }
    for (int i = 1; i < ACTIONS; i++)
        if (strcmp(word, actions[i].name) == 0) {
            rule->what = WHAT_ACTION;
            rule->action = (action_t)i;
            return NULL;
        }
    int number = lind_call_number(word);
    if (number < 0)
        return "no such system call";
    rule->what = WHAT_CALL;
    rule->number = (uint32_t)number;
    return NULL;
}

// The path of a rule: the rest of the line. NULL, or what is wrong.
static const char *parse_prefix(policy_t *p, rule_t *rule, const char *at, size_t n)
{
    bool modifies;
    if (rule->what == WHAT_CALL && policy_action(rule->number, &modifies) == ACTION_NONE)
        return "this system call has no path";
    if (at[0] != '/')
        return "a path begins with /";
    if (n >= LIND_PATH_MAX)
        return "the path is too long";
    char raw[LIND_PATH_MAX], path[LIND_PATH_MAX];
    memcpy(raw, at, n);
    raw[n] = 0;
    if (lind_path_join(path, "/", raw, NULL) != 0)
        return "the path is too long";
    rule->prefix = lind_arena_alloc(&p->arena, strlen(path) + 1);
    if (!rule->prefix)
        return "out of memory";
    memcpy(rule->prefix, path, strlen(path) + 1);
    p->has_paths = true;
    return NULL;
}

// One line, without its newline. NULL, or what is wrong.
static const char *parse_line(policy_t *p, const char *at, size_t n)
{
    const char *end = at + n, *word, *why;
    for (const char *c = at; c < end; c++)
        if ((unsigned char)*c < ' ' && !is_blank(*c))
            return "a control character";
    while (at < end && is_blank(*at))
        at++;
    while (end > at && is_blank(end[-1]))
        end--;
    if (at == end || *at == '#')
        return NULL;
    for (word = at; at < end && !is_blank(*at); at++)
        ;
    size_t verb = (size_t)(at - word);
    bool is_default = is_word(word, verb, "default");
    bool allow = is_word(word, verb, "allow");
    if (!is_default && !allow && !is_word(word, verb, "deny"))
        return "a line begins with allow, deny, default or #";
    while (at < end && is_blank(*at))
        at++;
    for (word = at; at < end && !is_blank(*at); at++)
        ;
    size_t what = (size_t)(at - word);
    while (at < end && is_blank(*at))
        at++;
    if (is_default) {
        if (at != end || !(is_word(word, what, "allow") || is_word(word, what, "deny")))
            return "it says default allow or default deny";
        if (p->has_default)
            return "a second default";
        p->has_default = true;
        p->deny_by_default = is_word(word, what, "deny");
        return NULL;
    }
    if (what == 0)
        return "a system call is missing";
    rule_t *rule = lind_arena_alloc(&p->arena, sizeof *rule);
    if (!rule)
        return "out of memory";
    rule->allow = allow;
    if ((why = parse_what(rule, word, what)) != NULL)
        return why;
    if (at < end && (why = parse_prefix(p, rule, at, (size_t)(end - at))) != NULL)
        return why;
    if (p->last)
        p->last->next = rule;
    else
        p->first = rule;
    p->last = rule;
    return NULL;
}

size_t policy_parse(policy_t *p, const char *text, size_t bytes, const char **why)
{
    size_t line = 0;
    for (size_t at = 0; at < bytes;) {
        size_t n = 0;
        while (at + n < bytes && text[at + n] != '\n')
            n++;
        line++;
        if ((*why = parse_line(p, text + at, n)) != NULL)
            return line;
        at += n + 1;
    }
    return 0;
}
