// policy.h: what the deny grate forbids: the text of a policy, and what it says about a call. It knows no cages and makes no
// calls; README.md has the grammar.
#ifndef DENY_POLICY_H
#define DENY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lind_rt.h"

// What a call does with a path. Calls of one kind with names of their own (open, openat, creat) are one action.
typedef enum {
    ACTION_NONE, // the call has no path
    ACTION_OPEN,
    ACTION_STAT,
    ACTION_ACCESS,
    ACTION_MKDIR,
    ACTION_RMDIR,
    ACTION_UNLINK,
    ACTION_RENAME,
    ACTION_LINK,
    ACTION_SYMLINK,
    ACTION_READLINK,
    ACTION_TRUNCATE,
    ACTION_CHMOD,
    ACTION_CHOWN,
    ACTION_UTIME,
    ACTION_MKNOD,
    ACTION_CHDIR,
    ACTION_EXEC,
    ACTION_STATFS,
    ACTIONS,
} action_t;

// A call as a policy sees it.
typedef struct {
    uint32_t number;
    action_t action;
    bool modifies;    // it changes the tree, or opens for writing
    bool tree;        // what it does to the path it does to all beneath it: a rule on something beneath forbids it too
    const char *path; // in the form of lind_path_join; NULL if the call has none, or none that is known
} question_t;

typedef enum { WHAT_ALL, WHAT_FILE, WHAT_MODIFY, WHAT_ACTION, WHAT_CALL } what_t;

typedef struct rule {
    struct rule *next;
    bool allow;
    what_t what;
    action_t action; // of WHAT_ACTION
    uint32_t number; // of WHAT_CALL
    char *prefix;    // in the form of lind_path_join, or NULL: whatever the path is
} rule_t;

// A policy. Zeroed, it allows everything. Its rules belong to the arena.
typedef struct {
    lind_arena_t arena;
    rule_t *first, *last;
    bool deny_by_default;
    bool has_default;   // a line says what the default is
    bool has_paths;   // a rule has a path
} policy_t;

// Adds the rules of a text to p, which is for the lines after those that it has. Answers 0, or the number of the first line
// that is wrong, from 1 on, and what is wrong with it in *why (static). p is of no use then.
size_t policy_parse(policy_t *p, const char *text, size_t bytes, const char **why);

// What p says about q: 0, or the number of the error to answer: LIND_EACCES if a path decided, LIND_EPERM if not.
int policy_ask(const policy_t *p, const question_t *q);

// Whether p can deny the call number at all, so that someone must ask.
bool policy_concerns(const policy_t *p, uint32_t number);

// The action of a call, and whether every such call modifies.
action_t policy_action(uint32_t number, bool *modifies);

#endif
